//! Tests of `options`.

use std::path::Path;

use super::*;

#[test]
fn root_keeps_its_data_outside_its_closed_home() {
    let home = Some(PathBuf::from("/root"));
    assert_eq!(data_dir_for(true, home.clone(), home), Path::new("/var/lib/reservd"));
}

#[test]
fn an_ordinary_user_keeps_data_in_the_xdg_folder() {
    let home = Some(PathBuf::from("/home/ann"));
    let xdg = Some(PathBuf::from("/data/ann"));
    assert_eq!(data_dir_for(false, xdg, home.clone()), Path::new("/data/ann/reservd"));
    assert_eq!(data_dir_for(false, None, home.clone()), Path::new("/home/ann/.local/share/reservd"));
    let relative_is_ignored = Some(PathBuf::from("share"));
    assert_eq!(data_dir_for(false, relative_is_ignored, home), Path::new("/home/ann/.local/share/reservd"));
}
