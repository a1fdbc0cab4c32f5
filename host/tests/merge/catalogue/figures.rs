//! The memory of this process, as the kernel counts it.

/// The resident memory of this process, in bytes.
pub fn resident() -> u64 {
    of("VmRSS:")
}

/// Bytes in whole MiB, for people.
pub fn mib(bytes: u64) -> String {
    bytes.div_ceil(1 << 20).to_string()
}

/// The growth of this process from a moment on.
pub struct Peak {
    start_bytes: u64,
}

/// Starts to watch. The kernel's mark of the highest use is put back first, where it may be.
pub fn track_peak() -> Peak {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    Peak { start_bytes: of("VmHWM:") }
}

impl Peak {
    /// By how many bytes the process has grown since, at its peak.
    pub fn growth(&self) -> u64 {
        of("VmHWM:").saturating_sub(self.start_bytes)
    }
}

fn of(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel counts");
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
    kib * 1024
}
