//! Finds out whether a module took the time while it was built.
//!
//! Engines of JavaScript run the top of a script at the build and keep their memory as it is then. A
//! time that was taken there is the same for ever, and at each build another. An engine keeps it as
//! a 64-bit float of milliseconds since 1970: one that lies in the last minutes before the file was
//! written is a time that was taken. (Of QuickJS nothing is found: its clock stands at the build, too.)

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a build may take.
const BUILD: Duration = Duration::from_secs(900);

/// A warning, if `module`, whose file was written at `built`, holds a time of its build.
pub(super) fn read_at_build(module: &[u8], built: SystemTime) -> Option<String> {
    let built_ms = built.duration_since(UNIX_EPOCH).ok()?.as_millis() as u64;
    let window = built_ms.saturating_sub(BUILD.as_millis() as u64)..=built_ms;
    let time = module.windows(8).find_map(|bytes| {
        let float = f64::from_le_bytes(bytes.try_into().ok()?);
        let whole = float.fract() == 0.0 && window.contains(&(float as u64));
        whole.then_some(float)
    })?;
    Some(format!(
        "it read a clock while it was built, and holds that time for ever ({time} ms since 1970): \
         another build merges otherwise"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_the_build_is_found_and_another_is_not() {
        let built = UNIX_EPOCH + Duration::from_secs(1_795_839_990);
        let with = |ms: f64| [&b"abc"[..], &ms.to_le_bytes(), b"def"].concat();
        let found = read_at_build(&with(1_795_839_900_123.0), built).expect("found");
        assert!(found.contains("1795839900123"), "{found}");
        for other in [1_795_000_000_000.0, 1_795_839_900_123.5, 1_796_000_000_000.0, 0.0] {
            assert_eq!(read_at_build(&with(other), built), None);
        }
    }
}
