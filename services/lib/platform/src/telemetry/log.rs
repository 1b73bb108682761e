//! The log: where to and what.
//!
//! A thread of its own writes, many lines at a time. When it can't keep up, lines are lost rather than requests delayed;
//! memory is bounded.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    Layer, Registry,
    filter::{FilterExt as _, Targets, filter_fn},
    fmt, reload,
};

use super::StartError;
use crate::config::{self, LogFormat};

/// Lines that wait to be written, at most.
const LINES: usize = 16_384;
/// How long the writer rests after it has written: woken for every line, it would cost more than making the lines does.
const REST: Duration = Duration::from_millis(5);

/// The running log.
#[derive(Debug)]
pub(super) struct Log {
    level: reload::Handle<Targets, Registry>,
    /// To open the file again, if it goes to one.
    reopen: Option<(PathBuf, Arc<AtomicBool>)>,
    _writer: WorkerGuard,
}

type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

pub(super) fn start(config: &config::Log) -> Result<(BoxedLayer, Log), StartError> {
    let (output, reopen) = output(&config.file)?;
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES)
        .thread_name("log")
        .finish(BufWriter::with_capacity(64 * 1024, output));
    let (level, handle) = reload::Layer::new(config.targets().map_err(StartError::Level)?);
    let wanted = level.and(filter_fn(|metadata| metadata.is_event()));
    let layer = fmt::layer().with_writer(writer).with_ansi(false);
    let layer: BoxedLayer = match config.format {
        LogFormat::Text => layer.with_filter(wanted).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(false).with_filter(wanted).boxed(),
    };
    Ok((layer, Log { level: handle, reopen, _writer: guard }))
}

impl Log {
    pub(super) fn reload(&self, config: &config::Log) -> Result<(), StartError> {
        let targets = config.targets().map_err(StartError::Level)?;
        if let Err(error) = self.level.reload(targets) {
            return Err(StartError::Level(error.to_string()));
        }
        if let Some((path, again)) = &self.reopen {
            // Whether it can be opened is said now; the writer opens it itself.
            open(path)?;
            again.store(true, Ordering::Release);
        }
        Ok(())
    }
}

type Reopen = Option<(PathBuf, Arc<AtomicBool>)>;

fn output(path: &Path) -> Result<(Output, Reopen), StartError> {
    if path.as_os_str().is_empty() {
        return Ok((Output::Error(io::stderr()), None));
    }
    let again = Arc::new(AtomicBool::new(false));
    let output = Output::File { file: open(path)?, path: path.to_owned(), again: Arc::clone(&again) };
    Ok((output, Some((path.to_owned(), again))))
}

fn open(path: &Path) -> Result<File, StartError> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.map_err(|error| StartError::File { path: path.display().to_string(), error })
}

/// Where lines go.
enum Output {
    Error(io::Stderr),
    File { file: File, path: PathBuf, again: Arc<AtomicBool> },
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Error(error) => error.write(bytes),
            Self::File { file, path, again } => {
                // If it can't be opened after all, the old one goes on.
                if again.swap(false, Ordering::AcqRel)
                    && let Ok(new) = open(path)
                {
                    *file = new;
                }
                file.write(bytes)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Error(error) => error.flush(),
            Self::File { file, .. } => file.flush(),
        }?;
        // Asked for whenever no line waits: those that come meanwhile are written at once, then.
        thread::sleep(REST);
        Ok(())
    }
}
