//! The body of a record that is put: files and standard input, read once.
//!
//! Invariants
//! - An empty body is refused before anything is sent, unless it is meant: it is what a pipe leaves that failed.
//! - A file that was changed, cut or lengthened while it was read ends with an error, never as a whole body.

use std::io::{self, BufRead, Cursor, Error, ErrorKind};
use std::os::fd::AsFd;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use crate::cli::exit::Failure;
use crate::cli::files::unreadable;
use crate::cli::output::Progress;

/// A body whose bytes are counted as they are read.
pub struct Body {
    reader: Pin<Box<dyn AsyncRead + Send>>,
    watched: Option<Watched>,
    progress: Progress,
}

/// A regular file, as it was when its reading began. What else is read has no length.
struct Watched {
    file: std::fs::File,
    length: u64,
    modified: Option<SystemTime>,
}

impl Watched {
    fn of(file: impl AsFd) -> io::Result<Option<Watched>> {
        let file = std::fs::File::from(file.as_fd().try_clone_to_owned()?);
        let metadata = file.metadata()?;
        let (length, modified) = (metadata.len(), metadata.modified().ok());
        Ok(metadata.is_file().then_some(Watched { file, length, modified }))
    }

    fn is_unchanged(&self) -> io::Result<bool> {
        let now = self.file.metadata()?;
        Ok((now.len(), now.modified().ok()) == (self.length, self.modified))
    }
}

impl Body {
    /// Opens what an option names; `-` is standard input. `may_be_empty` is `--empty`.
    ///
    /// # Errors
    /// Exit code 2: it cannot be read, or is empty.
    pub async fn open(option: &str, path: &Path, may_be_empty: bool, progress: Progress) -> Result<Body, Failure> {
        let cannot = |error| match path == Path::new("-") {
            true => Failure::usage(format!("cannot read standard input: {error}")),
            false => unreadable(option, path, &error),
        };
        let (mut reader, watched) = match path == Path::new("-") {
            true => standard_input().map_err(cannot)?,
            false => file(path).await.map_err(cannot)?,
        };
        let mut first = [0];
        let count = reader.read(&mut first).await.map_err(cannot)?;
        if count == 0 && !may_be_empty {
            let words = format!("{option}: nothing is in it, so that nothing of a document would be kept");
            return Err(
                Failure::usage(words).next("look at what should have written it; if it is meant so, add --empty")
            );
        }
        let reader = Box::pin(Cursor::new(first[..count].to_vec()).chain(reader));
        Ok(Body { reader, watched, progress })
    }
}

type Opened = (Pin<Box<dyn AsyncRead + Send>>, Option<Watched>);

async fn file(path: &Path) -> io::Result<Opened> {
    let file = File::open(path).await?;
    // A folder opens as well, and fails when it is read.
    if file.metadata().await?.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    let watched = Watched::of(&file)?;
    Ok((Box::pin(file), watched))
}

/// Standard input from where it stands: reading the number may have fetched more than its line.
fn standard_input() -> io::Result<Opened> {
    let mut input = std::io::stdin().lock();
    let fetched = input.fill_buf()?.to_vec();
    input.consume(fetched.len());
    let rest = std::fs::File::from(input.as_fd().try_clone_to_owned()?);
    let watched = Watched::of(&rest)?;
    Ok((Box::pin(Cursor::new(fetched).chain(File::from_std(rest))), watched))
}

impl AsyncRead for Body {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        std::task::ready!(self.reader.as_mut().poll_read(cx, into))?;
        let count = into.filled().len() - before;
        self.progress.add(count as u64);
        let is_end = count == 0 && into.remaining() > 0;
        if let (true, Some(watched)) = (is_end, &self.watched)
            && !watched.is_unchanged()?
        {
            return Poll::Ready(Err(Error::new(ErrorKind::InvalidData, "the file changed while it was read")));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    async fn opened(path: &Path, may_be_empty: bool) -> Result<Body, Failure> {
        Body::open("FILE", path, may_be_empty, Progress::bytes()).await
    }

    async fn all(mut body: Body) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes).await.map(|_| bytes)
    }

    #[tokio::test]
    async fn nothing_is_no_body_unless_it_is_meant() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("body");
        std::fs::write(&path, "").unwrap();
        for path in [&path, Path::new("/dev/null")] {
            let refused = opened(path, false).await.err().unwrap();
            assert!(
                refused.exit == crate::cli::exit::Exit::Usage && refused.message.contains("FILE"),
                "{}",
                refused.message
            );
            assert_eq!(all(opened(path, true).await.unwrap()).await.unwrap(), b"");
        }
        for bytes in [vec![7], vec![8; 100_000]] {
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(all(opened(&path, false).await.unwrap()).await.unwrap(), bytes);
        }
    }

    #[tokio::test]
    async fn a_file_that_changes_while_it_is_read_is_no_body() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("body");
        let change = |how: &dyn Fn(&mut std::fs::File)| {
            how(&mut std::fs::OpenOptions::new().append(true).open(&path).unwrap());
        };
        let changes: [&dyn Fn(&mut std::fs::File); 3] = [
            &|file| file.set_len(70_000).unwrap(),
            &|file| file.write_all(b"more").unwrap(),
            // Of the same length: by its time.
            &|file| file.set_modified(SystemTime::UNIX_EPOCH).unwrap(),
        ];
        for how in changes {
            std::fs::write(&path, vec![9; 100_000]).unwrap();
            let mut body = opened(&path, false).await.unwrap();
            body.read_exact(&mut [0; 60_000]).await.unwrap();
            change(how);
            assert_eq!(all(body).await.unwrap_err().kind(), ErrorKind::InvalidData);
        }
    }
}
