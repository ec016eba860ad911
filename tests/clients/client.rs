//! `client API MAILBOX` receives one message and prints it; with a FILE behind, it sends that as one message.
//! Nothing but Rust's standard library.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};

const ENOUGH: usize = 2 << 20;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let (api, path) = (arguments[1].as_str(), arguments[2].as_str());
    match arguments.get(3) {
        Some(file) => send(api, path, &fs::read(file)?),
        None => io::stdout().write_all(&receive(api, path)?),
    }
}

fn receive(api: &str, path: &str) -> io::Result<Vec<u8>> {
    match api {
        "fs_read" => fs::read(path),
        "read_to_string" => fs::read_to_string(path).map(String::into_bytes),
        "read" => read(File::open(path)?),
        "stream" => read(OpenOptions::new().read(true).write(true).open(path)?),
        "read_line" => {
            let mut line = String::new();
            BufReader::new(File::open(path)?).read_line(&mut line)?;
            Ok(line.into_bytes())
        }
        "lines" => {
            let lines: io::Result<Vec<String>> = BufReader::new(File::open(path)?).lines().collect();
            Ok((lines?.join("\n") + "\n").into_bytes())
        }
        "io_copy" => {
            let mut bytes = Vec::new();
            io::copy(&mut File::open(path)?, &mut bytes)?;
            Ok(bytes)
        }
        "io_copy_out" => {
            io::copy(&mut File::open(path)?, &mut io::stdout())?;
            Ok(Vec::new())
        }
        "fs_copy" => {
            let copy = std::env::temp_dir().join(format!("ipcfs-{}", std::process::id()));
            fs::copy(path, &copy)?;
            let bytes = fs::read(&copy);
            fs::remove_file(copy)?;
            bytes
        }
        _ => panic!("no {api}"),
    }
}

fn read(mut file: File) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; ENOUGH];
    let length = file.read(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

fn send(api: &str, path: &str, text: &[u8]) -> io::Result<()> {
    match api {
        "fs_write" => fs::write(path, text),
        "write_all" => File::create(path)?.write_all(text),
        "append" => OpenOptions::new().append(true).open(path)?.write_all(text),
        "stream" => OpenOptions::new().read(true).write(true).open(path)?.write_all(text),
        "buf_writer" => {
            let mut writer = BufWriter::with_capacity(ENOUGH, File::create(path)?);
            for line in text.split_inclusive(|byte| *byte == b'\n') {
                writer.write_all(line)?;
            }
            writer.flush()
        }
        _ => panic!("no {api}"),
    }
}
