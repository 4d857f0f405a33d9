//! Which server to run, where, and as which user.

use std::path::PathBuf;

use super::account;

/// Which server to run, where, and as which user.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// The folder of everything that belongs to this server; created if missing.
    pub data_dir: PathBuf,
    /// The only folder to search for `postgres` and `initdb`, instead of the usual places.
    pub bin_dir: Option<PathBuf>,
    /// When root starts it: the user to run PostgreSQL as, else `postgres`, else `reservd`. Other users run it as
    /// themselves.
    pub os_user: Option<String>,
    /// Whether an acknowledged commit survives a power cut. Off is faster, for tests.
    pub durable: bool,
    /// PostgreSQL's limit for the pools of all processes together.
    pub max_connections: u32,
    /// Further settings of PostgreSQL, which override the defaults of this module.
    pub settings: Vec<(String, String)>,
}

impl EmbeddedOptions {
    /// A server whose acknowledged commits survive a power cut.
    pub fn durable(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            bin_dir: None,
            os_user: None,
            durable: true,
            max_connections: 100,
            settings: Vec::new(),
        }
    }

    /// A faster server, whose data may not survive a power cut.
    pub fn for_tests(data_dir: impl Into<PathBuf>) -> Self {
        Self { durable: false, max_connections: 300, ..Self::durable(data_dir) }
    }
}

/// The default data folder of `reservd serve`: the XDG data folder; for root `/var/lib/reservd`, since the user that
/// PostgreSQL runs as cannot enter root's home.
pub fn default_data_dir() -> PathBuf {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let home = variable("HOME").or_else(account::own_home);
    data_dir_for(account::is_root(), variable("XDG_DATA_HOME"), home)
}

fn data_dir_for(root: bool, xdg_data_home: Option<PathBuf>, home: Option<PathBuf>) -> PathBuf {
    if root {
        return PathBuf::from("/var/lib/reservd");
    }
    xdg_data_home
        .filter(|path| path.is_absolute())
        .or_else(|| home.map(|home| home.join(".local/share")))
        .map_or_else(|| PathBuf::from(".reservd"), |base| base.join("reservd"))
}

#[cfg(test)]
mod tests;
