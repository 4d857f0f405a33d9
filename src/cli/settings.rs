//! Where a command gets the settings from.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use crate::config::{Config, Flags};

/// The settings of a command, besides those in the environment.
#[derive(Clone, Debug, Default, Args)]
pub struct Settings {
    /// A TOML file of settings that override the defaults
    #[arg(long, value_name = "FILE", env = "RESERVD_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    /// Any setting, such as server.listen=0.0.0.0:50051; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    // Not by its alias, which clap would take for one value.
    set: Vec<(String, String)>,
}

/// The settings of a server.
#[derive(Clone, Debug, Default, Args)]
pub struct ServerSettings {
    #[command(flatten)]
    settings: Settings,
    /// The address of the gRPC server (server.listen)
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// The data folder of the PostgreSQL that reservd runs itself (embedded.data_dir)
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<String>,
}

impl Settings {
    /// The settings in force.
    pub fn load(&self) -> Result<Config, Failure> {
        self.load_with(Flags::new())
    }

    fn load_with(&self, flags: Flags) -> Result<Config, Failure> {
        let config = self.config.as_deref().filter(|file| !file.as_os_str().is_empty());
        Ok(Config::load(config, &[self.set.clone(), flags].concat())?)
    }
}

impl ServerSettings {
    /// The settings in force.
    pub fn load(&self) -> Result<Config, Failure> {
        let given = [("server.listen", &self.listen), ("embedded.data_dir", &self.data_dir)];
        let flags = given.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)));
        self.settings.load_with(flags.collect())
    }
}

/// A pair of a key and a value, as KEY=VALUE.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
