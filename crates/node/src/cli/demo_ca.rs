//! The certificate authority of `fdrtd demo --tls`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fdrtd::config::TlsConfig;
use fdrtd::node::StartError;
use fdrtd::private_ca;

const FILE_NAME: &str = "fdrtd-demo-ca.pem";
/// First line of the file. Others are not overwritten.
const MARK: &str = "# A private certificate authority, made by fdrtd demo; its key was never written.\n";

/// Trust in a certificate that was made on the spot.
pub(crate) struct DemoCa {
    /// The authority's certificate.
    pub(crate) file: PathBuf,
    /// That of the listener.
    pub(crate) tls: TlsConfig,
    /// Is removed at the end.
    directory: Option<PathBuf>,
}

impl DemoCa {
    /// Signs a certificate for `hosts`, and writes the authority's own to `file` or into a new temporary directory.
    pub(crate) fn make(hosts: Vec<String>, file: Option<&Path>) -> Result<DemoCa, StartError> {
        let made = private_ca::make("fdrtd demo", hosts)?;
        let text = format!("{MARK}{}", made.pem);
        let mut ca = DemoCa {
            file: PathBuf::new(),
            tls: TlsConfig {
                made: Some(made.certificate),
                ..TlsConfig::default()
            },
            directory: None,
        };
        ca.file = match file {
            Some(file) => {
                replace(file, &text).map_err(|error| format!("--ca-file {}: {error}", file.display()))?;
                std::path::absolute(file)?
            }
            None => {
                // Nobody else can have made or guessed it.
                let directory = std::env::temp_dir().join(format!("fdrtd-demo-{}", uuid::Uuid::new_v4().simple()));
                fs::create_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
                let file = ca.directory.insert(directory).join(FILE_NAME);
                write_new(&file, &text)?;
                file
            }
        };
        Ok(ca)
    }
}

impl Drop for DemoCa {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory {
            // What is left does no harm: a certificate that nothing uses any more.
            let _ = fs::remove_dir_all(directory);
        }
    }
}

/// Writes the file, in the place of one from an earlier demo only: it might be the authority of something real.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    match fs::read(file) {
        Ok(found) if found.starts_with(MARK.as_bytes()) => fs::remove_file(file)?,
        Ok(_) => {
            return Err(io::Error::other(
                "there is a file already, and it is not of an earlier demo; choose another name",
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    write_new(file, text)
}

fn write_new(file: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file)?
        .write_all(text.as_bytes())
}
