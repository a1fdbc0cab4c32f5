//! The data directory.

use std::os::unix::fs::PermissionsExt;

use super::super::HomeError;
use super::*;

#[test]
fn a_directory_keeps_its_node_and_its_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/node");
    let home = Home::open(&path).unwrap();
    let node = home.node();
    assert_eq!(home.load("cluster.json").unwrap(), None);
    home.save("cluster.json", b"one").unwrap();
    home.save("cluster.json", b"two\nlines\n").unwrap();
    drop(home);
    let home = Home::open(&path).unwrap();
    assert_eq!(home.node(), node);
    assert_eq!(home.load("cluster.json").unwrap().unwrap(), "two\nlines\n");
    let mode = std::fs::metadata(path.join("cluster.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let leftovers = std::fs::read_dir(&path)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".new"));
    assert_eq!(leftovers.count(), 0);
}

#[test]
fn a_second_process_is_told_who_has_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::open(directory.path()).unwrap();
    let text = Home::open(directory.path()).unwrap_err().to_string();
    assert!(text.contains(&directory.path().display().to_string()), "{text}");
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    drop(home);
    Home::open(directory.path()).unwrap();
}

#[test]
fn a_damaged_file_is_refused_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let node = Home::open(directory.path()).unwrap().node();
    let path = directory.path().join("node");
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut altered = whole.clone();
        altered[at] ^= 1;
        std::fs::write(&path, altered).unwrap();
        let error = Home::open(directory.path()).unwrap_err();
        assert!(matches!(error, HomeError::Damaged { .. }), "byte {at}: {error}");
        assert!(error.to_string().contains(&path.display().to_string()));
    }
    std::fs::write(&path, whole).unwrap();
    assert_eq!(Home::open(directory.path()).unwrap().node(), node);
}

#[test]
fn a_directory_of_a_newer_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::open(directory.path()).unwrap();
    home.save("node", b"format 2\nnode x\n").unwrap();
    drop(home);
    let error = Home::open(directory.path()).unwrap_err();
    assert!(matches!(&error, HomeError::UnknownFormat { found, .. } if found == "2"), "{error}");
}

#[test]
fn a_name_cannot_leave_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::open(directory.path()).unwrap();
    for name in ["../x", "a/b", "", ".hidden", "a\0b"] {
        assert!(matches!(home.save(name, b""), Err(HomeError::BadName { .. })), "{name:?}");
    }
    home.save("module-0af3.wasm", b"").unwrap();
}

#[test]
fn a_damaged_incarnation_costs_nothing_and_a_damaged_clean_note_a_comparison() {
    let rig = Rig::new();
    for file in ["incarnation", "clean"] {
        let stores = rig.open();
        put(&stores, "k", "x");
        stores.close().unwrap();
        drop(stores);
        std::fs::write(rig.path().join(file), b"noise").unwrap();
        let stores = rig.open();
        assert_eq!(stores.is_after_unclean_stop(), file == "clean", "{file}");
        assert!(load(&stores, "k").unwrap().is_some());
    }
}
