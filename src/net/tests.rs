//! Tests of `net`.

use crate::config::DEFAULTS;

#[test]
fn the_page_names_the_defaults() {
    let defaults: toml::Table = DEFAULTS.parse().expect("it is TOML");
    let page = include_str!("mod.rs").lines().take_while(|line| line.starts_with("//!"));
    let settings: Vec<_> = page.flat_map(|line| line.split('`').filter(|code| code.contains(" = "))).collect();
    assert!(settings.len() > 20);
    for setting in settings {
        let (key, default) = setting.split_once(" = ").expect("as selected");
        let (section, key) = key.split_once('.').expect("a section and a key");
        let default: toml::Table = format!("{key} = {default}").parse().expect("it is TOML");
        assert_eq!(defaults[section][key], default[key], "{section}.{key}");
    }
}
