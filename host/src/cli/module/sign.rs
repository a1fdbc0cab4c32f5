//! `stator module keygen` and `sign`: keys, and signatures that keyspaces demand. Neither needs a node.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use stator_core::catalogue::{PublicKey, Signature};
use stator_core::id::ModuleDigest;
use stator_proto::v1;

use crate::cli::failure::Failure;
use crate::cli::output::{self, Output};
use crate::signing::{KeyError, SigningKey, read_signature};

const KEYGEN_EXAMPLES: &str = "\
Examples:
  stator module keygen release
  stator keyspace update carts --signed-by release.pub

It writes NAME.key, which signs (keep it from others), and NAME.pub, which keyspaces are told.";

/// Make a pair of keys to sign modules with
#[derive(Debug, Args)]
#[command(after_help = KEYGEN_EXAMPLES)]
pub(in crate::cli) struct Keygen {
    /// The files' name, without its end
    name: PathBuf,
}

const SIGN_EXAMPLES: &str = "\
Examples:
  stator module sign target/components/cart.wasm --key release.key --out cart.sig
  stator module push target/components/cart.wasm --signature cart.sig

What is signed (Ed25519, RFC 8032) is a text of two lines, `stator module signature v1` and the module's
digest in 64 hexadecimal digits, each with its line feed. A signature is a line: the public key, a space,
128 hexadecimal digits. Other tools may make it.";

/// Sign a module; the signature goes with its push
#[derive(Debug, Args)]
#[command(after_help = SIGN_EXAMPLES)]
pub(in crate::cli) struct Sign {
    /// The component's file, or the digest of one
    module: String,
    /// The private key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where to write the signature [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// The signatures that go with a push
#[derive(Debug, Args)]
pub(super) struct Signing {
    /// Sign it with this private key; may be given several times
    #[arg(long, value_name = "KEYFILE")]
    sign: Vec<PathBuf>,
    /// Take this signature with it; may be given several times
    #[arg(long = "signature", value_name = "FILE")]
    signatures: Vec<PathBuf>,
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Failure::usage(error.to_string())
    }
}

impl Keygen {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        let key = SigningKey::generate()?;
        let named = |end: &str| {
            let mut name = self.name.clone().into_os_string();
            name.push(end);
            PathBuf::from(name)
        };
        let (private, public) = (named(".key"), named(".pub"));
        let text = key.public().to_string();
        write_new(&private, key.pem(), 0o600)?;
        write_new(&public, &format!("{text}\n"), 0o644)?;
        match output {
            Output::Json => output::json(
                &json!({ "public_key": text, "private_file": private, "public_file": public }),
            ),
            Output::Table => output::line(text),
        }
    }
}

/// Writes a file that is not there yet.
fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = made.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| {
        Failure::refused(format!("cannot write {}: {error}", path.display()))
            .hint("no key is overwritten: give another name")
    })
}

impl Sign {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        let path = Path::new(&self.module);
        let digest = match self.module.parse::<ModuleDigest>() {
            Ok(digest) if !path.is_file() => digest,
            _ => ModuleDigest::of(&super::read(path)?),
        };
        let key = SigningKey::read(&self.key)?;
        let (public, signature) = (key.public(), key.sign(&digest));
        if let Some(out) = &self.out {
            std::fs::write(out, format!("{public} {signature}\n")).map_err(|error| {
                Failure::refused(format!("cannot write {}: {error}", out.display()))
            })?;
        }
        match (output, &self.out) {
            (Output::Json, _) => output::json(&json!({
                "digest": digest.to_string(),
                "public_key": public.to_string(),
                "signature": signature.to_string(),
            })),
            (Output::Table, None) => output::line(format!("{public} {signature}")),
            (Output::Table, Some(out)) => {
                output::line(format!("{}: module {digest}, signed by {public}", out.display()))
            }
        }
    }
}

impl Signing {
    /// What goes with the push of a module.
    pub(super) fn of(&self, module: &ModuleDigest) -> Result<Vec<v1::ModuleSignature>, Failure> {
        let made = self.sign.iter().map(|file| {
            let key = SigningKey::read(file)?;
            Ok((key.public(), key.sign(module)))
        });
        let read = self.signatures.iter().map(|file| read_signature(file));
        let message = |signed: Result<(PublicKey, Signature), KeyError>| {
            let (key, signature) = signed?;
            Ok(v1::ModuleSignature { key: key.to_string(), signature: signature.0.to_vec().into() })
        };
        made.chain(read).map(message).collect()
    }
}

/// The public keys that `--signed-by` was given: words, or files that hold one.
pub(in crate::cli) fn keys(given: &[String]) -> Result<Vec<String>, Failure> {
    let key = |text: &String| {
        let is_file = Path::new(text).is_file();
        let text = if is_file { std::fs::read_to_string(text)? } else { text.clone() };
        let key: Result<PublicKey, _> = text.trim().parse();
        key.map(|key| key.to_string())
            .map_err(|bad| Failure::usage(bad.to_string()).hint("or name a file that holds one"))
    };
    given.iter().filter(|text| !text.is_empty()).map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_words_or_files_and_private_ones_are_for_their_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let name = folder.path().join("release.v1");
        let keygen = || Keygen { name: name.clone() }.run(Output::Table);
        keygen().expect("made");
        assert!(keygen().is_err(), "no key is overwritten");
        let (private, public) =
            (folder.path().join("release.v1.key"), folder.path().join("release.v1.pub"));
        let mode = std::fs::metadata(&private).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = SigningKey::read(&private).expect("a key").public().to_string();
        let given = [text.clone(), String::new(), public.display().to_string()];
        assert_eq!(keys(&given).ok(), Some(vec![text.clone(), text]));
        assert!(keys(&[private.display().to_string()]).is_err(), "not the private one");
        assert_eq!(keys(&[String::new()]).ok(), Some(Vec::new()), "nobody's");

        let signature = folder.path().join("cart.sig");
        let digest = ModuleDigest([7; 32]);
        let (module, out) = (digest.to_string(), Some(signature.clone()));
        let sign = Sign { module, key: private.clone(), out }.run(Output::Table);
        sign.expect("signed");
        let signing = Signing { sign: vec![private], signatures: vec![signature] };
        let both = signing.of(&digest).expect("two");
        assert_eq!(both[0], both[1], "by key or by file");
    }
}
