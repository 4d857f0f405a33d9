//! The settings: one documented file of defaults, overlaid by a file, the environment and flags.
//! Secrets print redacted.

mod broker;
mod check;
mod explain;
mod load;
mod problems;
mod secret;
mod security;
mod sessions;
mod settings;
mod web;

pub use broker::{Broker, PayloadFormat};
pub use load::Flags;
pub use problems::ConfigError;
pub use secret::{Secret, SecretUrl};
pub use security::{Algorithm, Auth, ClientCertificates, Limits, Location, Role, Security, Tls};
pub use sessions::{SessionKind, Sessions};
pub use settings::{
    BatchScope, Config, DEFAULTS, Database, Diagnostics, Embedded, Events, Execution, Expiry, LogFormat,
    NETWORK_DEFAULTS, Retention, Server, Strategy, StrategyDefaults, Telemetry, Waitlist, Watch, is_loopback,
};
pub use web::Web;
