//! Tests of `net`.

use crate::config::{DEFAULTS, NETWORK_DEFAULTS};

#[test]
fn the_page_names_the_defaults() {
    let parsed = |text: &str| text.parse::<toml::Table>().expect("it is TOML");
    let defaults = [parsed(DEFAULTS), parsed(NETWORK_DEFAULTS)];
    let page = include_str!("mod.rs").lines().take_while(|line| line.starts_with("//!"));
    let settings: Vec<_> = page.flat_map(|line| line.split('`').filter(|code| code.contains(" = "))).collect();
    assert!(settings.len() > 20);
    for setting in settings {
        let (key, default) = setting.split_once(" = ").expect("as selected");
        let (section, key) = key.split_once('.').expect("a section and a key");
        let default: toml::Table = format!("{key} = {default}").parse().expect("it is TOML");
        let is_default = |defaults: &toml::Table| defaults.get(section).and_then(|it| it.get(key)) == default.get(key);
        assert!(defaults.iter().any(is_default), "{section}.{key}");
    }
}
