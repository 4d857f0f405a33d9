//! `reservd sessions`: opens, lists and revokes sessions in Redis itself, past every server: the first
//! admin's, and those of whom no service knows.

use std::{sync::Arc, time::Duration};

use clap::{ArgGroup, Args, Subcommand};

use super::{Failure, token::parse_role};
use crate::{
    auth::{
        principal::{Role, Roles},
        sessions::{
            Sessions,
            record::{Session, Wish},
            store::Reach,
            token::SessionId,
        },
    },
    config::{Config, SessionKind},
    domain::{ids::UserId, time::Timestamp},
    rpc::status::rfc3339,
    telemetry::metrics::Metrics,
};

/// What can be done with sessions.
#[derive(Debug, Subcommand)]
pub enum SessionsCommand {
    /// Open a session, and print its token: here, and never again
    Create(Create),
    /// List the sessions of a user
    List(List),
    /// Revoke a session, or all of a user
    Revoke(Revoke),
}

/// The options of `reservd sessions create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Whose it is
    #[arg(long, value_parser = parse_user, value_name = "USER_ID")]
    user: UserId,
    /// What its bearer may do; may be repeated
    #[arg(long, value_parser = parse_role, value_name = "ROLE", default_value = "user")]
    role: Vec<Role>,
    /// How long it is good without being used [default: sessions.lifetime]
    #[arg(long, value_parser = humantime::parse_duration)]
    lifetime: Option<Duration>,
    /// Let it end after that time, used or not
    #[arg(long)]
    fixed: bool,
    /// For who lists the sessions
    #[arg(long, default_value = "")]
    description: String,
}

/// The options of `reservd sessions list`.
#[derive(Debug, Args)]
pub struct List {
    /// Whose
    #[arg(long, value_parser = parse_user, value_name = "USER_ID")]
    user: UserId,
}

/// The options of `reservd sessions revoke`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true))]
pub struct Revoke {
    /// All of this user
    #[arg(long, group = "what", value_parser = parse_user, value_name = "USER_ID")]
    user: Option<UserId>,
    /// This one
    // An id may begin with a hyphen.
    #[arg(group = "what", value_parser = parse_id, value_name = "SESSION_ID", allow_hyphen_values = true)]
    session: Option<SessionId>,
}

impl SessionsCommand {
    /// Does it.
    pub async fn run(self, config: Config) -> Result<(), Failure> {
        let sessions = Sessions::new(&config.sessions, Arc::new(Metrics::new()))?;
        let sessions = sessions.ok_or("there are no sessions: sessions.url (REDIS_URL) is not set")?;
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
            let most = humantime::format_duration(settings.max_lifetime);
            return Err(format!("--lifetime must be from 1s to {most} (sessions.max_lifetime)").into());
        }
        let wish = Wish {
            user_id: self.user,
            roles: Roles::of(&self.role),
            kind: if self.fixed { SessionKind::Fixed } else { settings.kind },
            lifetime,
            created_by: "command line".to_owned(),
            description: self.description,
        };
        println!("{}", sessions.open(&wish).await?.token.expose());
        Ok(())
    }
}

impl List {
    async fn run(self, sessions: &Sessions) -> Result<(), Failure> {
        let found = sessions.list(&self.user, &Reach::All).await?;
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
        let revoked = match (self.user, self.session) {
            (Some(user), _) => sessions.revoke_user(&user, &Reach::All, "call").await?,
            (None, Some(id)) => u32::from(sessions.revoke(id, &Reach::All).await?),
            (None, None) => 0,
        };
        println!("{revoked} revoked");
        Ok(())
    }
}

fn parse_user(text: &str) -> Result<UserId, String> {
    UserId::parse(text).ok_or_else(|| crate::domain::ids::ID_RULE.to_owned())
}

fn parse_id(text: &str) -> Result<SessionId, String> {
    SessionId::parse(text).ok_or_else(|| "must be 43 characters of base64url, as a session's id has".to_owned())
}
