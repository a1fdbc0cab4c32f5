//! The node's side of a compilation: starts the child, feeds it, and bounds what it may take.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::compile_child::COMPILE_MODULE;
use super::limits::Limits;
use super::refused::ModuleRefused;

/// Bytes of the child's complaints that are worth carrying.
const COMPLAINT_BYTES_MAX: usize = 4096;

/// Compiles `component` in a child process and returns its artefact.
pub(super) async fn compile(
    compiler: &Path,
    component: &Bytes,
    limits: &Limits,
) -> Result<Vec<u8>, ModuleRefused> {
    let child = start(compiler, limits).map_err(|source| ModuleRefused::NoCompiler {
        program: compiler.display().to_string(),
        source,
    })?;
    // On time-out the future is dropped, and the child with it, which kills it.
    let Ok(end) = timeout(limits.compile_wall, attend(child, component, limits)).await else {
        return Err(ModuleRefused::CompileTimedOut { limit: limits.compile_wall });
    };
    let end = end.map_err(|e| ModuleRefused::NodeFault(format!("talking to its compiler: {e}")))?;
    // Asked first: a child whose artefact was not read to its end has failed of that.
    if end.artefact.len() > limits.artefact_bytes_max {
        return Err(ModuleRefused::Compile(format!(
            "its machine code has more than {} bytes, which is the limit of class `{}`",
            limits.artefact_bytes_max, limits.class
        )));
    }
    if !end.status.success() {
        return Err(ModuleRefused::Compile(end.complaint(limits)));
    }
    Ok(end.artefact)
}

fn start(compiler: &Path, limits: &Limits) -> io::Result<Child> {
    Command::new(compiler)
        .arg(COMPILE_MODULE)
        .arg(limits.compile_memory_bytes.to_string())
        .arg(limits.compile_cpu_seconds.to_string())
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

/// How a child ended.
struct End {
    status: ExitStatus,
    artefact: Vec<u8>,
    stderr: Vec<u8>,
}

/// Feeds the child and hears it out. Never reads more than one byte above a limit.
async fn attend(mut child: Child, component: &Bytes, limits: &Limits) -> io::Result<End> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A child that died early closes its end: its status says more than this error.
            let _ = stdin.write_all(component).await;
        }
    };
    let ((), artefact, stderr) = tokio::join!(
        feed,
        read_at_most(stdout, limits.artefact_bytes_max + 1),
        read_at_most(stderr, COMPLAINT_BYTES_MAX),
    );
    let (artefact, stderr) = (artefact?, stderr?);
    Ok(End { status: child.wait().await?, artefact, stderr })
}

/// Reads up to `bytes_max`, then closes the pipe, so that a child that writes on ends of it.
async fn read_at_most(
    pipe: Option<impl AsyncRead + Unpin>,
    bytes_max: usize,
) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(bytes_max as u64).read_to_end(&mut read).await?;
    }
    Ok(read)
}

impl End {
    /// Why the child failed, in its own words and the kernel's.
    fn complaint(&self, limits: &Limits) -> String {
        use std::os::unix::process::ExitStatusExt;
        let words = String::from_utf8_lossy(&self.stderr);
        let words = words.trim();
        match self.status.signal() {
            None if words.is_empty() => format!("the compiler ended with {}", self.status),
            None => words.to_owned(),
            Some(libc::SIGXCPU | libc::SIGKILL) => format!(
                "the compiler was killed; its limit is {} s of processor time. {words}",
                limits.compile_cpu_seconds
            ),
            Some(signal) => format!(
                "the compiler ended by signal {signal}; its limit is {} bytes of memory. {words}",
                limits.compile_memory_bytes
            ),
        }
    }
}
