//! `reservd sessions`: opens, lists and revokes sessions directly in Redis, without a server. For the first admin's
//! session, and for operators.

use std::{sync::Arc, time::Duration};

use clap::{ArgGroup, Args, Subcommand};

use super::{
    failure::Failure,
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
    config::{Config, SessionKind},
    domain::{ids::UserId, time::Timestamp},
    rpc::status::rfc3339,
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
    /// The user
    #[arg(long, value_parser = parse_user, value_name = "USER_ID")]
    user: UserId,
}

/// The options of `reservd sessions revoke`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true))]
pub struct Revoke {
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
    pub async fn run(self, config: Config) -> Result<(), Failure> {
        let sessions = Sessions::new(&config.sessions, Arc::new(Metrics::new()))?;
        let sessions = sessions.ok_or("sessions are not configured: sessions.url (REDIS_URL) is not set")?;
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
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(["SESSION_ID", "ROLES", "CREATED", "USED", "EXPIRES", "BY", "DESCRIPTION"]);
        for session in &found {
            table.add_row(row(session));
        }
        println!("{table}");
        Ok(())
    }
}

fn row(session: &Session) -> [String; 7] {
    let time = |time: Timestamp| rfc3339(time).unwrap_or_default();
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
        println!("{revoked} revoked");
        Ok(())
    }
}

fn parse_user(text: &str) -> Result<UserId, String> {
    UserId::parse(text).ok_or_else(|| crate::domain::ids::ID_RULE.to_owned())
}

fn parse_id(text: &str) -> Result<SessionId, String> {
    SessionId::parse(text).ok_or_else(|| "must be a session id: 43 characters of base64url".to_owned())
}
