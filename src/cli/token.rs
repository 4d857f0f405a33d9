//! `reservd token`: creates a token for development, and the keys that sign it.

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args};
use serde_json::json;

use super::{failure::Failure, output::print, settings::Settings};
use crate::{
    auth::{
        claims::Expectations,
        clock,
        denial::TokenProblem,
        dev_keys::{DevKeys, write_new},
        principal::Role,
    },
    config::Auth,
    domain::ids::ID_RULE,
};

/// The options of `reservd token`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("who").required(true), after_help = "\
A server that accepts these tokens:
  reservd serve --set auth.jwks=dev-keys/jwks.json --set auth.issuer=reservd-dev")]
pub struct Token {
    /// A user, who reserves for itself: role user
    #[arg(long, group = "who", value_name = "USER_ID")]
    user: Option<String>,
    /// A service, which reserves for any user: role service
    #[arg(long, group = "who", value_name = "NAME")]
    service: Option<String>,
    /// An administrator, who may do everything: role admin
    #[arg(long, group = "who", value_name = "NAME")]
    admin: Option<String>,
    /// Another principal, with the roles of --role
    #[arg(long, group = "who", value_name = "NAME")]
    subject: Option<String>,
    /// A further role; may be repeated
    #[arg(long, value_parser = parse_role, value_name = "ROLE")]
    role: Vec<Role>,
    /// The validity of the token
    #[arg(long, default_value = "12h", value_parser = humantime::parse_duration)]
    ttl: Duration,
    /// The folder of the keys, which are created if they are missing
    #[arg(long, default_value = "dev-keys", value_name = "FOLDER")]
    keys: PathBuf,
    /// The issuer, which must match the server's auth.issuer [default: that of the settings, or else reservd-dev]
    #[arg(long)]
    issuer: Option<String>,
    /// The audience, which must match the server's auth.audience [default: that of the settings]
    #[arg(long)]
    audience: Option<String>,
    #[command(flatten)]
    output: TokenOutput,
    #[command(flatten)]
    settings: Settings,
}

/// Where a new token goes.
#[derive(Debug, Args)]
pub struct TokenOutput {
    /// Write the token to this new file, which only its owner can read, instead of printing it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl TokenOutput {
    /// Prints or writes a token.
    pub fn put(&self, token: &str) -> Result<(), Failure> {
        match &self.out {
            None => print(format_args!("{token}\n"))?,
            Some(file) => write_new(file, 0o600, format!("{token}\n").as_bytes())?,
        }
        Ok(())
    }
}

impl Token {
    /// Makes a token.
    pub fn run(self) -> Result<(), Failure> {
        let auth = self.expected()?;
        let who = [(self.user, Some(Role::User)), (self.service, Some(Role::Service)), (self.admin, Some(Role::Admin))];
        let named = who.into_iter().chain([(self.subject, None)]).find_map(|(name, role)| Some((name?, role)));
        let (subject, role) = named.ok_or("one of --user, --service, --admin and --subject must be given")?;
        let roles: Vec<_> = role.into_iter().chain(self.role).map(Role::name).collect();
        let now = clock::now();
        let end = now.saturating_add(i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX));
        let (issuer, audience) = (&auth.issuer, &auth.audience);
        let claims = json!({ "iss": issuer, "aud": audience, "sub": subject, "roles": roles, "iat": now, "nbf": now, "exp": end });
        if let Err(problem) = Expectations::new(&auth).check(claims.to_string().as_bytes(), now) {
            return Err(refused(problem, &subject, self.ttl, &auth).into());
        }
        self.output.put(&DevKeys::in_folder(&self.keys)?.sign(&claims))
    }

    /// What a server with these settings expects of a token. Its roles are always in the claim `roles`.
    fn expected(&self) -> Result<Auth, Failure> {
        let auth = self.settings.load()?.auth;
        let issuer = if auth.issuer.is_empty() { "reservd-dev".to_owned() } else { auth.issuer };
        let (issuer, audience) =
            (self.issuer.clone().unwrap_or(issuer), self.audience.clone().unwrap_or(auth.audience));
        Ok(Auth { issuer, audience, ..auth })
    }
}

/// Why a server would refuse the token.
fn refused(problem: TokenProblem, subject: &str, ttl: Duration, auth: &Auth) -> String {
    let [ttl, max] = [ttl, auth.max_token_lifetime].map(humantime::format_duration);
    match problem {
        TokenProblem::Expired | TokenProblem::Lifetime => {
            format!("--ttl {ttl}: a token must be valid for 1s to {max} (auth.max_token_lifetime)")
        }
        TokenProblem::Subject => format!("{subject:?} is no name of a caller: {ID_RULE}"),
        other => format!("a server with these settings would refuse the token: {}", other.text()),
    }
}

/// The role of a name.
pub fn parse_role(name: &str) -> Result<Role, String> {
    let found = Role::ALL.into_iter().find(|role| role.name() == name);
    found.ok_or_else(|| format!("must be one of {}", Role::ALL.map(Role::name).join(", ")))
}
