//! `flanneld lease export | import`: moves the leases of a network from one store to another. The
//! store is the one that flanneld would use with the same flags.

use crate::{
    cli::{self, options::Options},
    daemon::{self, ManagerError},
    subnet::{
        self,
        transfer::{DocumentError, Export, LeaseArchive, Outcome},
    },
};
use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
    process::ExitCode,
};
use tracing::error;

/// An export that other users of the machine cannot read: it says where each node is.
const FILE: atomic_file::Options = atomic_file::Options {
    durable: true,
    ..atomic_file::Options::new(0o600)
};
/// Longest document that is read, bytes: 100,000 leases need 30 MB.
const DOCUMENT_LIMIT: u64 = 64 << 20;

/// Why a command fails.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// The words after `lease` are no command.
    #[error(
        "usage: flanneld [flags] lease export [FILE], or: flanneld [flags] lease import [FILE]"
    )]
    Usage,
    /// The store that the flags name cannot be used.
    #[error(transparent)]
    Manager(#[from] ManagerError),
    /// The store refuses, or does not answer.
    #[error("{store}: {source}")]
    Store {
        store: String,
        source: subnet::Error,
    },
    /// The document cannot be read or written.
    #[error("{name}: {source}")]
    File { name: String, source: io::Error },
    /// The document is no export.
    #[error("{name}: {source}")]
    Document { name: String, source: DocumentError },
    /// The leases cannot be written as JSON.
    #[error("cannot write the leases as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The system refuses threads or descriptors.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
}

impl Error {
    fn is_usage(&self) -> bool {
        match self {
            Error::Usage => true,
            Error::Manager(error) => error.is_usage(),
            _ => false,
        }
    }
}

/// `arguments` are the words after `lease`. Succeeds if every lease is where it should be.
pub(crate) fn run(options: &Options, arguments: &[String]) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime);
    let done = runtime.and_then(|runtime| {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match words[..] {
            ["export"] => runtime.block_on(export(options, None)),
            ["export", file] => runtime.block_on(export(options, Some(Path::new(file)))),
            ["import"] => runtime.block_on(import(options, None)),
            ["import", file] => runtime.block_on(import(options, Some(Path::new(file)))),
            _ => Err(Error::Usage),
        }
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            error!("{error}");
            cli::failure(error.is_usage())
        }
    }
}

async fn export(options: &Options, file: Option<&Path>) -> Result<bool, Error> {
    let archive = daemon::archive(options, false).await?;
    let export = archive.export().await.map_err(failed(&*archive))?;
    let text = export.to_text()?;
    let written = match file {
        Some(path) => FILE.write(path, text.as_bytes()),
        None => io::stdout().write_all(text.as_bytes()),
    };
    written.map_err(unusable(file, "stdout"))?;
    eprintln!(
        "{} leases of the {}",
        export.leases.len(),
        archive.describe()
    );
    Ok(true)
}

async fn import(options: &Options, file: Option<&Path>) -> Result<bool, Error> {
    let text = read(file).map_err(unusable(file, "stdin"))?;
    let export = Export::parse(&text).map_err(|source| Error::Document {
        name: name(file, "stdin"),
        source,
    })?;
    let archive = daemon::archive(options, true).await?;
    let outcomes = archive.import(&export).await.map_err(failed(&*archive))?;
    for (lease, outcome) in export.leases.iter().zip(&outcomes) {
        if !outcome.is_success() {
            eprintln!(
                "not imported: {} of {}: {outcome}",
                lease.subnets,
                lease.attrs.node()
            );
        }
    }
    let count = |wanted: fn(&Outcome) -> bool| outcomes.iter().filter(|one| wanted(one)).count();
    let refused = count(|outcome| !outcome.is_success());
    eprintln!(
        "{}: {} added, {} already there, {refused} not imported",
        archive.describe(),
        count(|outcome| *outcome == Outcome::Added),
        count(|outcome| *outcome == Outcome::Present),
    );
    Ok(refused == 0)
}

fn read(file: Option<&Path>) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let read = match file {
        Some(path) => fs::File::open(path)?
            .take(DOCUMENT_LIMIT + 1)
            .read_to_end(&mut text)?,
        None => io::stdin()
            .take(DOCUMENT_LIMIT + 1)
            .read_to_end(&mut text)?,
    };
    if read as u64 > DOCUMENT_LIMIT {
        let limit = format!("it is longer than {DOCUMENT_LIMIT} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, limit));
    }
    Ok(text)
}

fn failed(archive: &dyn LeaseArchive) -> impl FnOnce(subnet::Error) -> Error {
    let store = archive.describe();
    |source| Error::Store { store, source }
}

fn unusable(file: Option<&Path>, stream: &str) -> impl FnOnce(io::Error) -> Error {
    let name = name(file, stream);
    |source| Error::File { name, source }
}

fn name(file: Option<&Path>, stream: &str) -> String {
    match file {
        Some(path) => path.display().to_string(),
        None => stream.to_owned(),
    }
}
