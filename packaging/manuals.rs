//! Writes the man pages and shell completions of the programs that are packaged:
//! `cargo run --locked --example manuals -- FOLDER`. A path below FOLDER is the one
//! below /usr/share.

use std::{env, error::Error, fs, path::PathBuf};

use chat::{client, server};
use clap::CommandFactory;
use clap_complete::Shell;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(env::args().nth(1).ok_or("usage: manuals FOLDER")?);
    let write = |below: String, content: &[u8]| {
        let path = folder.join(below);
        fs::create_dir_all(path.parent().unwrap_or(&folder))?;
        fs::write(path, content)
    };
    for mut command in [
        server::options::Options::command(),
        client::app::Options::command(),
    ] {
        let name = command.get_name().to_owned();
        let mut page = Vec::new();
        clap_mangen::Man::new(command.clone()).render(&mut page)?;
        write(format!("man/man1/{name}.1"), &page)?;
        for (shell, path) in [
            (Shell::Bash, format!("bash-completion/completions/{name}")),
            (Shell::Zsh, format!("zsh/vendor-completions/_{name}")),
            (
                Shell::Fish,
                format!("fish/vendor_completions.d/{name}.fish"),
            ),
        ] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, &name, &mut script);
            write(path, &script)?;
        }
    }
    Ok(())
}
