//! What the benchmarks share.

#![allow(dead_code, reason = "each benchmark takes what it needs")]

use std::path::PathBuf;
use std::time::Duration;

/// The folder that the build leaves programs in.
pub fn built() -> PathBuf {
    let this = std::env::current_exe().expect("a benchmark has a path");
    this.ancestors().nth(2).expect("target/PROFILE/deps/BENCH").to_owned()
}

/// The program that was built with this benchmark.
pub fn program() -> PathBuf {
    let path = built().join("stator");
    assert!(path.exists(), "{} is not there; run `make bench`", path.display());
    path
}

/// A component that `make components` has built, by its path there.
pub fn component(name: &str) -> Vec<u8> {
    let path = built().with_file_name("components").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}; run `make bench`", path.display()))
}

/// A cart in JSON of about `bytes`, with every second item shared by all carts.
pub fn cart_json(which: usize, bytes: usize) -> Vec<u8> {
    let mut items = Vec::new();
    let mut length = 0;
    while length < bytes.saturating_sub(60) {
        let number = items.len();
        let owner = if number.is_multiple_of(2) { 0 } else { which };
        let item = format!(
            "\"tag-{owner:02}-{number:05}\":{{\"quantity\":2,\"sku\":\"85123A-{number:04}\"}}"
        );
        length += item.len() + 1;
        items.push(item);
    }
    items.sort();
    format!("{{\"items\":{{{}}},\"removed\":[\"tag-99-{which:05}\"]}}", items.join(","))
        .into_bytes()
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Processor time of this thread so far.
pub fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it fills the place it is given.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
