//! Disks that tests can fill, cut off and copy; each is gone again when it is dropped.
//!
//! They need root, `mount`, `mkfs.ext4` or a C compiler. Where one is missing a test says so and
//! why, on its standard error, and does not count as having shown anything.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tells people that a test could not do its work here. It is printed past the capture of passing
/// tests.
pub(super) fn skip(test: &str, why: &str) {
    let line = format!("\n==== SKIPPED {test}: {why}\n");
    let _ = File::options()
        .append(true)
        .open("/dev/stderr")
        .and_then(|mut out| out.write_all(line.as_bytes()));
}

/// Runs a program; its words are the error.
pub(super) fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {}: {}", arguments.join(" "), words.trim()))
}

/// A file system that is mounted on a directory of its own.
pub(super) struct Mounted {
    directory: tempfile::TempDir,
    is_mounted: bool,
}

impl Mounted {
    /// In memory, of so many bytes.
    pub(super) fn in_memory(size_bytes: u64) -> Result<Self, String> {
        Self::mount(|at| {
            run("mount", &["-t", "tmpfs", "-o", &format!("size={size_bytes}"), "tmpfs", at])
        })
    }

    /// The ext4 in the file `image`.
    pub(super) fn image(image: &Path) -> Result<Self, String> {
        let image = image.display().to_string();
        Self::mount(|at| run("mount", &["-t", "ext4", "-o", "loop", &image, at]))
    }

    fn mount(mount: impl FnOnce(&str) -> Result<(), String>) -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        mount(&directory.path().display().to_string())?;
        Ok(Mounted { directory, is_mounted: true })
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.is_mounted {
            let at = self.path().display().to_string();
            // Lazily, so that no process that is just ending keeps it.
            self.is_mounted =
                run("umount", &[&at]).or_else(|_| run("umount", &["-l", &at])).is_err();
        }
    }
}

/// Makes an empty ext4 of so many bytes in the file `image`.
pub(super) fn make_ext4(image: &Path, size_bytes: u64) -> Result<(), String> {
    let made = File::create(image).and_then(|file| file.set_len(size_bytes));
    made.map_err(|error| error.to_string())?;
    run("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=0", &image.display().to_string()])
}

/// Copies a file, leaving out what is zero.
pub(super) fn copy_sparse(from: &Path, to: &Path) -> io::Result<()> {
    let (mut source, mut target) = (File::open(from)?, File::create(to)?);
    target.set_len(source.metadata()?.len())?;
    let mut block = vec![0; 64 << 10];
    loop {
        let count = source.read(&mut block)?;
        if count == 0 {
            return Ok(());
        }
        if block[..count].iter().any(|byte| *byte != 0) {
            target.write_all(&block[..count])?;
        } else {
            target.seek(SeekFrom::Current(count as i64))?;
        }
    }
}

/// Copies a directory with everything in it.
pub(super) fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            copy_sparse(&entry.path(), &target)?;
        }
    }
    Ok(())
}

/// The disk of `faults/forget.c`, which keeps only what was synced.
pub(super) struct Forgetful {
    directory: tempfile::TempDir,
}

impl Forgetful {
    pub(super) fn new() -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        for part in ["home", "image"] {
            fs::create_dir(directory.path().join(part)).map_err(|error| error.to_string())?;
        }
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/storage/tests/faults/forget.c");
        let shim = directory.path().join("forget.so").display().to_string();
        run("cc", &["-shared", "-fPIC", "-O2", "-o", &shim, source, "-ldl"])?;
        Ok(Forgetful { directory })
    }

    /// The data directory of the process that runs on this disk.
    pub(super) fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// What puts a process on this disk.
    pub(super) fn environment(&self) -> Vec<(String, String)> {
        let shim = self.directory.path().join("forget.so");
        let image = self.directory.path().join("image");
        let home = fs::canonicalize(self.home()).unwrap_or_default();
        [("LD_PRELOAD", shim), ("FORGET_ROOT", home), ("FORGET_IMAGE", image)]
            .map(|(name, path)| (name.to_owned(), path.display().to_string()))
            .into()
    }

    /// Makes of what was synced the directory `left`: what the disk has after a power cut.
    pub(super) fn cut(&self) -> io::Result<PathBuf> {
        use std::os::unix::fs::MetadataExt;
        let left = self.directory.path().join("left");
        let root = fs::metadata(self.home())?.ino();
        self.restore(root, &left)?;
        Ok(left)
    }

    fn restore(&self, inode: u64, to: &Path) -> io::Result<()> {
        let image = self.directory.path().join("image");
        fs::create_dir_all(to)?;
        let names = match fs::read_to_string(image.join(format!("d-{inode}"))) {
            Ok(names) => names,
            // It was never synced: it is there and empty.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for line in names.lines() {
            let words: Vec<&str> = line.splitn(3, ' ').collect();
            let [inode, kind, name] = words[..] else { continue };
            let target = to.join(name);
            if kind == "d" {
                self.restore(inode.parse().unwrap_or_default(), &target)?;
                continue;
            }
            let content = image.join(format!("f-{inode}"));
            if content.exists() {
                copy_sparse(&content, &target)?;
            } else {
                File::create(&target)?;
            }
        }
        Ok(())
    }
}

/// Prints a table, also for a test that passes.
pub(super) fn print_table(title: &str, head: &[&str], rows: &[Vec<String>]) {
    let mut widths: BTreeMap<usize, usize> = BTreeMap::new();
    let head: Vec<String> = head.iter().map(|word| (*word).to_owned()).collect();
    for row in rows.iter().chain([&head]) {
        for (column, word) in row.iter().enumerate() {
            let width = widths.entry(column).or_default();
            *width = (*width).max(word.chars().count());
        }
    }
    println!("\n{title}");
    for row in [&head].into_iter().chain(rows) {
        let words = row.iter().enumerate();
        let line: Vec<String> =
            words.map(|(column, word)| format!("{word:<0$}", widths[&column])).collect();
        println!("  {}", line.join("  ").trim_end());
    }
}
