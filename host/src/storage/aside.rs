//! Setting a store aside: its directory gets another name and stays, the store starts empty.
//!
//! A list of what was set aside is kept in the data directory, durably and *before* the directory
//! is renamed. So a start finishes what an earlier one began, and a node that stops before its
//! store was refilled still knows that it must be.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::home::{Home, HomeError};
use super::job::Area;

/// The list's name in the data directory.
const LIST: &str = "set-aside";

/// A store that could not be used and was replaced by an empty one, or that has lost something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Which store.
    pub area: Area,
    /// Where what it held is now; Stator never deletes it. Its own place, if what is left of the
    /// store is in use.
    pub path: PathBuf,
    /// What was wrong with it.
    pub why: String,
}

/// A line of the list.
#[derive(Clone)]
struct Entry {
    aside: SetAside,
    /// Whether the directory still has its old name.
    is_due: bool,
}

const DUE: &str = "due";
const DONE: &str = "done";

/// What was set aside and is not refilled yet. What was only intended so far is done first.
///
/// # Errors
/// The list cannot be read, or a directory not be renamed.
pub(super) fn finish(home: &Home) -> Result<Vec<SetAside>, HomeError> {
    let mut list = load(home)?;
    for entry in list.iter_mut().filter(|entry| entry.is_due) {
        let from = home.path().join(entry.aside.area.name());
        rename(home, &from, &entry.aside.path)?;
        entry.is_due = false;
    }
    save(home, &list)?;
    Ok(list.into_iter().map(|entry| entry.aside).collect())
}

/// Notes, durably, that the store of `area` is to be set aside: by the next [`finish`]. The answer
/// is where it will be.
pub(super) fn intend(home: &Home, area: Area, why: &str) -> Result<PathBuf, HomeError> {
    let mut list = load(home)?;
    if let Some(entry) = list.iter().find(|entry| entry.is_due && entry.aside.area == area) {
        return Ok(entry.aside.path.clone());
    }
    let is_free =
        |path: &PathBuf| !path.exists() && list.iter().all(|entry| entry.aside.path != *path);
    let path = (1u32..)
        .map(|n| home.path().join(format!("{}.set-aside-{n}", area.name())))
        .find(is_free)
        .unwrap_or_default();
    tracing::warn!(
        store = area.name(),
        to = %path.display(),
        why,
        "the store cannot be used: it is set aside, nothing of it is deleted, and it starts empty"
    );
    let aside = SetAside { area, path: path.clone(), why: why.to_owned() };
    list.push(Entry { aside, is_due: true });
    save(home, &list)?;
    Ok(path)
}

/// Notes, durably, that the store of `area` has lost something and goes on with what is left.
pub(super) fn note_loss(home: &Home, area: Area, why: &str) -> Result<(), HomeError> {
    let mut list = load(home)?;
    if list.iter().any(|entry| entry.aside.area == area) {
        return Ok(());
    }
    tracing::warn!(store = area.name(), why, "the store has lost something and is to be refilled");
    let path = home.path().join(area.name());
    list.push(Entry { aside: SetAside { area, path, why: why.to_owned() }, is_due: false });
    save(home, &list)
}

/// Takes `area` off the list: it holds again what the cluster wants it to hold.
pub(super) fn forget(home: &Home, area: Area) -> Result<(), HomeError> {
    let mut list = load(home)?;
    list.retain(|entry| entry.aside.area != area || entry.is_due);
    save(home, &list)
}

fn rename(home: &Home, from: &Path, to: &Path) -> Result<(), HomeError> {
    // The node stopped between the renaming and the note of it.
    if to.exists() || !from.exists() {
        return Ok(());
    }
    let renamed = fs::rename(from, to)
        .and_then(|()| File::open(home.path()))
        .and_then(|directory| directory.sync_all());
    renamed.map_err(|source| {
        let path = from.display().to_string();
        HomeError::Io { doing: "set aside", path, source }
    })
}

fn load(home: &Home) -> Result<Vec<Entry>, HomeError> {
    let content = match home.load(LIST) {
        Ok(content) => content.unwrap_or_default(),
        // Either may be in the list.
        Err(HomeError::Damaged { why, .. }) => {
            let unknown = |area: Area| SetAside {
                area,
                path: home.path().join(area.name()),
                why: format!("the list of stores that were set aside is damaged: {why}"),
            };
            let all = [Area::Data, Area::Hints].map(unknown);
            return Ok(all.into_iter().map(|aside| Entry { aside, is_due: false }).collect());
        }
        Err(error) => return Err(error),
    };
    let entry = |line: &str| {
        let mut words = line.splitn(4, ' ');
        let (area, state) = (Area::named(words.next()?)?, words.next()?);
        let path = home.path().join(words.next()?);
        let why = words.next().unwrap_or_default().to_owned();
        Some(Entry { aside: SetAside { area, path, why }, is_due: state == DUE })
    };
    Ok(String::from_utf8_lossy(&content).lines().filter_map(entry).collect())
}

fn save(home: &Home, list: &[Entry]) -> Result<(), HomeError> {
    if list.is_empty() && home.load(LIST).is_ok_and(|content| content.is_none()) {
        return Ok(());
    }
    let line = |Entry { aside, is_due }: &Entry| {
        let name = aside.path.file_name().unwrap_or_default().to_string_lossy();
        let state = if *is_due { DUE } else { DONE };
        format!("{} {state} {name} {}\n", aside.area.name(), aside.why.replace('\n', " "))
    };
    home.save(LIST, list.iter().map(line).collect::<String>().as_bytes())
}
