//! The `stator` binary.

use std::process::ExitCode;

use stator::merge;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some(merge::COMPILE_MODULE) => merge::compile_module_main(args),
        Some("module") => match encode(&args.collect::<Vec<_>>()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("usage: stator module encode CORE -o OUT");
            ExitCode::FAILURE
        }
    }
}

fn encode(args: &[String]) -> anyhow::Result<()> {
    use anyhow::Context;
    let [verb, core, flag, out] = args else {
        anyhow::bail!("usage: module encode CORE -o OUT")
    };
    anyhow::ensure!(
        verb == "encode" && flag == "-o",
        "usage: stator module encode CORE -o OUT"
    );
    let core = std::fs::read(core).with_context(|| format!("cannot read {core}"))?;
    let component = merge::encode_component(&core)?;
    std::fs::write(out, component).with_context(|| format!("cannot write {out}"))
}
