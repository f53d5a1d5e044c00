//! Spec files as a command line names them: files, directories, `-`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::Failure;

/// Longest text that is read, bytes; far above what a spec may have, so that the parser says
/// what is wrong with a long one.
const TEXT_BYTES_MAX: u64 = 64 << 20;
/// Deepest directory below one that was named.
const DEPTH_MAX: usize = 16;
/// Name of what comes in by standard input.
pub(crate) const STDIN: &str = "<stdin>";

/// One text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Input {
    /// Name for diagnostics.
    pub(crate) name: String,
    /// What it holds.
    pub(crate) bytes: Vec<u8>,
}

/// Reads every spec file that the paths name. A directory stands for the `.yaml` and `.yml`
/// files below it, in the order of their names, without hidden ones and what editors
/// leave behind; `-` for standard input.
///
/// # Errors
/// When a path cannot be read.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<Input>, Failure> {
    let mut inputs = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let bytes = read_capped(io::stdin().lock(), Path::new("standard input"))?;
            inputs.push(Input {
                name: STDIN.to_owned(),
                bytes,
            });
            continue;
        }
        let mut files = Vec::new();
        let meta = path
            .metadata()
            .map_err(|err| Failure::Read(path.clone(), err))?;
        if meta.is_dir() {
            list(path, DEPTH_MAX, &mut files)?;
        } else {
            files.push(path.clone());
        }
        for file in files {
            inputs.push(read_file(&file)?);
        }
    }
    Ok(inputs)
}

/// Reads one file.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read_file(path: &Path) -> Result<Input, Failure> {
    let opened = File::open(path).map_err(|err| Failure::Read(path.to_owned(), err))?;
    let name = path.display().to_string();
    Ok(Input {
        name,
        bytes: read_capped(opened, path)?,
    })
}

fn list(directory: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let broken = |err| Failure::Read(directory.to_owned(), err);
    let entries = directory.read_dir().map_err(broken)?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(broken)?;
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(['.', '#', '~']) {
            continue;
        }
        // Not following links: a link to a directory above would be read for ever.
        let kind = path
            .symlink_metadata()
            .map_err(|err| Failure::Read(path.clone(), err))?;
        if kind.is_dir() && depth > 0 {
            list(&path, depth - 1, files)?;
        } else if path.is_file() && (name.ends_with(".yaml") || name.ends_with(".yml")) {
            files.push(path);
        }
    }
    Ok(())
}

fn read_capped(from: impl Read, path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let mut capped = from.take(TEXT_BYTES_MAX + 1);
    capped
        .read_to_end(&mut bytes)
        .map_err(|err| Failure::Read(path.to_owned(), err))?;
    if capped.limit() == 0 {
        return Err(Failure::TooLarge(path.to_owned(), TEXT_BYTES_MAX));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_stands_for_its_specs_in_order_and_for_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        };
        for name in [
            "b.yml",
            "a.yaml",
            "sub/c.yaml",
            ".hidden.yaml",
            "a.yaml~",
            "x.txt",
            "#a.yaml",
            ".git/d.yaml",
        ] {
            make(name);
        }
        std::os::unix::fs::symlink(dir.path(), dir.path().join("loop")).unwrap();
        let inputs = read(&[dir.path().to_owned()]).unwrap();
        let texts: Vec<&[u8]> = inputs.iter().map(|input| input.bytes.as_slice()).collect();
        assert_eq!(texts, [b"a.yaml".as_slice(), b"b.yml", b"sub/c.yaml"]);
    }

    #[test]
    fn a_named_file_counts_whatever_its_ending() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spec.txt");
        std::fs::write(&path, "x").unwrap();
        assert_eq!(read(&[path]).unwrap().len(), 1);
    }

    #[test]
    fn a_path_that_is_not_there_is_an_error() {
        let err = read(&[PathBuf::from("/nonexistent/x.yaml")]).unwrap_err();
        assert_eq!(err.to_string(), "cannot read /nonexistent/x.yaml");
    }
}
