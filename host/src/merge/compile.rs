//! The node's side of a compilation: feeds the child, and bounds what it may take.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::compile_child::{NOT_ALLOWED, NOT_VALID};
use super::compiler::{Compiler, Cost};
use super::limits::Limits;
use super::refused::ModuleRefused;

/// Bytes of the child's complaints that are worth carrying.
const COMPLAINT_BYTES_MAX: usize = 4096;

/// Checks and compiles `component` in a child process and returns its artefact. Tells what it
/// took, even of a refusal; nothing if the child was killed on the wall clock.
pub(super) async fn compile(
    program: &Path,
    component: &Bytes,
    limits: &Limits,
) -> (Result<Vec<u8>, ModuleRefused>, Cost) {
    let compiler = match Compiler::start(program, limits) {
        Ok(compiler) => compiler,
        Err(source) => {
            let program = program.display().to_string();
            return (Err(ModuleRefused::NoCompiler { program, source }), Cost::default());
        }
    };
    // On time-out the future is dropped, and the compiler with it, which kills it.
    match timeout(limits.compile_wall, attend(compiler, component, limits)).await {
        Err(_) => {
            let (limit, class) = (limits.compile_wall, limits.class);
            (Err(ModuleRefused::CompileTimedOut { limit, class }), Cost::default())
        }
        Ok(Err(error)) => {
            let fault = ModuleRefused::NodeFault(format!("talking to its compiler: {error}"));
            (Err(fault), Cost::default())
        }
        Ok(Ok(end)) => {
            let cost = end.cost;
            (end.artefact(limits), cost)
        }
    }
}

/// How a child ended.
struct End {
    status: ExitStatus,
    cost: Cost,
    artefact: Vec<u8>,
    stderr: Vec<u8>,
}

/// Feeds the child and hears it out. Never reads more than one byte above a limit.
async fn attend(mut compiler: Compiler, component: &Bytes, limits: &Limits) -> io::Result<End> {
    let (stdin, stdout, stderr) =
        (compiler.stdin.take(), compiler.stdout.take(), compiler.stderr.take());
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
    let (status, cost) = compiler.ended().await?;
    Ok(End { status, cost, artefact, stderr })
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
    fn artefact(self, limits: &Limits) -> Result<Vec<u8>, ModuleRefused> {
        let class = limits.class;
        // Asked first: a child whose artefact was not read to its end has failed of that.
        if self.artefact.len() > limits.artefact_bytes_max {
            let what =
                format!("its machine code has more than {} bytes", limits.artefact_bytes_max);
            return Err(ModuleRefused::CompileLimit { what, class });
        }
        if self.status.success() {
            return Ok(self.artefact);
        }
        let words = String::from_utf8_lossy(&self.stderr).trim().to_owned();
        Err(match (self.status.code(), self.status.signal()) {
            (Some(NOT_VALID), _) => ModuleRefused::Malformed(words),
            (Some(NOT_ALLOWED), _) => ModuleRefused::NotAllowed(words),
            (_, Some(libc::SIGXCPU | libc::SIGKILL)) => {
                let seconds = limits.compile_cpu_seconds;
                let what = format!("the compiler was stopped after {seconds} s of processor time");
                ModuleRefused::CompileLimit { what, class }
            }
            (_, Some(signal)) => {
                let bytes = limits.compile_memory_bytes;
                let what = format!(
                    "the compiler needed more than {bytes} bytes of memory, or broke (signal \
                     {signal})"
                );
                ModuleRefused::CompileLimit { what, class }
            }
            _ if words.is_empty() => {
                ModuleRefused::Compile(format!("the compiler ended with {}", self.status))
            }
            _ => ModuleRefused::Compile(words),
        })
    }
}
