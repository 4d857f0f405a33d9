//! What `reservd event import` says about messy files: tests/data/csv has each file, and beside it the exact output.
//!
//! `WRITE_SNAPSHOTS=1` writes the outputs: read the difference before you commit it.

use std::fs;

use crate::support::{
    TestServer,
    process::{checkout, finish, program},
};

#[tokio::test]
async fn each_messy_file_has_its_exact_output() {
    let server = TestServer::start().await;
    let (folder, address) = (checkout("tests/data/csv"), format!("http://{}", server.app.address));
    let names = fs::read_dir(&folder).expect("there are files").map(|file| file.expect("readable").file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().expect("plain letters")).collect();
    names.retain(|name| name.ends_with(".csv"));
    names.sort();
    assert!(names.len() >= 40, "{names:?}");

    let write = std::env::var_os("WRITE_SNAPSHOTS").is_some();
    let mut wrong = Vec::new();
    for name in names {
        let mut command = program(["event", "import", &name, "--server", &address]);
        command.current_dir(&folder);
        let output = finish(command).await;
        let code = output.code.expect("it exits");
        let found = format!("{}{}exit code {code}\n", output.err, output.out);
        let snapshot = folder.join(&name).with_extension("out");
        if write {
            fs::write(&snapshot, &found).expect("it can be written");
        }
        let expected = fs::read_to_string(&snapshot).unwrap_or_default();
        if found != expected {
            wrong.push(format!("{name}\n--- expected\n{expected}--- found\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "{} files:\n{}", wrong.len(), wrong.join("\n"));
    server.check_and_stop().await;
}
