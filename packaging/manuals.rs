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
        let pages = folder.join("man/man1");
        fs::create_dir_all(&pages)?;
        // One for each subcommand as well.
        clap_mangen::generate_to(command.clone(), pages)?;
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
