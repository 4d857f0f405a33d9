//! `reservd sessions`: opens, lists and revokes sessions directly in Redis, without a server. For the first admin's
//! session, and for operators.

use std::{sync::Arc, time::Duration};

use clap::{ArgGroup, Args, Subcommand};

use super::{
    failure::Failure,
    output::print,
    settings::Settings,
    table::{Column, Table},
    text,
    token::{TokenOutput, parse_role},
};
use crate::{
    auth::{
        principal::{Role, Roles},
        session_token::SessionId,
        sessions::{
            Sessions,
            record::{NewSession, Session},
            store::SessionScope,
        },
    },
    config::SessionKind,
    domain::ids::UserId,
    rpc::encode,
    telemetry::metrics::Metrics,
};

/// The commands of `reservd sessions`.
#[derive(Debug, Subcommand)]
pub enum SessionsCommand {
    /// Open a session and print its token, which is shown only once
    Create(Create),
    /// List the sessions of a user
    List(List),
    /// Revoke a session, all sessions of a user, or all that a principal created
    Revoke(Revoke),
}

/// The options of `reservd sessions create`.
#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    settings: Settings,
    /// The user of the session
    #[arg(long, value_parser = parse_user, value_name = "USER_ID")]
    user: UserId,
    /// A role of the session; may be repeated
    #[arg(long, value_parser = parse_role, value_name = "ROLE", default_value = "user")]
    role: Vec<Role>,
    /// The lifetime since the last use [default: sessions.lifetime]
    #[arg(long, value_parser = humantime::parse_duration)]
    lifetime: Option<Duration>,
    /// Count the lifetime from now instead of from the last use
    #[arg(long)]
    fixed: bool,
    /// A description for lists of sessions
    #[arg(long, default_value = "")]
    description: String,
    #[command(flatten)]
    output: TokenOutput,
}

/// The options of `reservd sessions list`.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    settings: Settings,
    /// The user
    #[arg(long, value_parser = parse_user, value_name = "USER_ID")]
    user: UserId,
}

/// The options of `reservd sessions revoke`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true))]
pub struct Revoke {
    #[command(flatten)]
    settings: Settings,
    /// Revoke all sessions of this user
    #[arg(long, group = "what", value_parser = parse_user, value_name = "USER_ID")]
    user: Option<UserId>,
    /// Revoke all sessions that this principal created, such as token:shop
    #[arg(long, group = "what", value_name = "PRINCIPAL")]
    created_by: Option<String>,
    /// Revoke this session
    // An id may begin with a hyphen.
    #[arg(group = "what", value_parser = parse_id, value_name = "SESSION_ID", allow_hyphen_values = true)]
    session: Option<SessionId>,
}

impl SessionsCommand {
    /// Runs the command.
    pub async fn run(self) -> Result<(), Failure> {
        let settings = match &self {
            Self::Create(Create { settings, .. }) | Self::List(List { settings, .. }) => settings,
            Self::Revoke(Revoke { settings, .. }) => settings,
        };
        let sessions = Sessions::new(&settings.load()?.sessions, Arc::new(Metrics::new()))?;
        let advice = "sessions.url (REDIS_URL) is not set; set it, for example with --set sessions.url=redis://HOST";
        let sessions = sessions.ok_or(advice)?;
        match self {
            Self::Create(create) => create.run(&sessions).await,
            Self::List(list) => list.run(&sessions).await,
            Self::Revoke(revoke) => revoke.run(&sessions).await,
        }
    }
}

impl Create {
    async fn run(self, sessions: &Sessions) -> Result<(), Failure> {
        let settings = sessions.settings();
        let lifetime = self.lifetime.unwrap_or(settings.lifetime);
        if !(Duration::from_secs(1)..=settings.max_lifetime).contains(&lifetime) {
            let max = humantime::format_duration(settings.max_lifetime);
            return Err(format!("--lifetime must be from 1s to {max} (sessions.max_lifetime)").into());
        }
        let new = NewSession {
            user_id: self.user,
            roles: Roles::of(&self.role),
            kind: if self.fixed { SessionKind::Fixed } else { settings.kind },
            lifetime,
            created_by: "command line".to_owned(),
            description: self.description,
        };
        self.output.put(sessions.open(&new).await?.token.expose())
    }
}

impl List {
    async fn run(self, sessions: &Sessions) -> Result<(), Failure> {
        let found = sessions.list(&self.user, &SessionScope::ALL).await?;
        let headers = ["SESSION_ID", "ROLES", "CREATED", "USED", "EXPIRES", "BY", "DESCRIPTION"];
        let mut table = Table::new(&headers.map(Column::Text));
        found.iter().for_each(|session| table.row(row(session)));
        print(table)
    }
}

fn row(session: &Session) -> [String; 7] {
    let time = |time| text::time(Some(encode::timestamp(time)));
    [
        session.id.to_string(),
        session.roles.names().collect::<Vec<_>>().join(","),
        time(session.created),
        time(session.used),
        time(session.expires),
        session.created_by.clone(),
        session.description.clone(),
    ]
}

impl Revoke {
    async fn run(self, sessions: &Sessions) -> Result<(), Failure> {
        let revoked = match (self.user, self.created_by, self.session) {
            (Some(user), ..) => sessions.revoke_user(&user, &SessionScope::ALL, "call").await?,
            (_, Some(principal), _) => sessions.revoke_created_by(&principal).await?,
            (.., Some(id)) => u32::from(sessions.revoke(id, &SessionScope::ALL).await?),
            (None, None, None) => 0,
        };
        print(format_args!("{revoked} revoked\n"))
    }
}

fn parse_user(text: &str) -> Result<UserId, String> {
    UserId::parse(text).ok_or_else(|| crate::domain::ids::ID_RULE.to_owned())
}

fn parse_id(text: &str) -> Result<SessionId, String> {
    SessionId::parse(text).ok_or_else(|| "must be a session id: 43 characters of base64url".to_owned())
}
