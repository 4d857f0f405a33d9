//! How to install PostgreSQL's server on this system.

/// A clause for an error message.
pub(super) fn how_to_install() -> String {
    let os_release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    install_advice(std::env::consts::OS, &os_release)
}

fn install_advice(os: &str, os_release: &str) -> String {
    let family = |name: &str| {
        os_release
            .lines()
            .filter_map(|line| line.strip_prefix("ID=").or(line.strip_prefix("ID_LIKE=")))
            .any(|ids| ids.trim_matches('"').split(' ').any(|id| id == name))
    };
    let command = if os == "macos" {
        "brew install postgresql@17"
    } else if family("debian") || family("ubuntu") {
        "apt-get install postgresql"
    } else if family("fedora") || family("rhel") {
        "dnf install postgresql-server"
    } else if family("alpine") {
        "apk add postgresql"
    } else if family("arch") {
        "pacman -S postgresql"
    } else if family("suse") || family("opensuse") {
        "zypper install postgresql-server"
    } else {
        return "install your system's PostgreSQL server package".to_owned();
    };
    format!("install it with `{command}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_fits_the_system() {
        let ubuntu = "NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=debian\n";
        assert!(install_advice("linux", ubuntu).contains("apt-get install postgresql"));
        let rocky = "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n";
        assert!(install_advice("linux", rocky).contains("dnf install"));
        assert!(install_advice("macos", "").contains("brew install"));
        assert!(install_advice("linux", "ID=slackware").contains("your system's"));
    }
}
