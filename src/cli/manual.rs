//! `learnsync completions` and `learnsync man`: made from the same words as `--help`.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{CommandLine, Failure, print_text};

#[derive(Args)]
pub(super) struct CompletionOptions {
    /// The shell.
    shell: Shell,
}

#[derive(Args)]
pub(super) struct ManOptions {
    /// The folder of the pages; made when it is not there.
    folder: PathBuf,
}

pub(super) fn completions(options: &CompletionOptions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut CommandLine::command(), "learnsync", &mut script);
    print_text(&String::from_utf8_lossy(&script))
}

pub(super) fn man(options: &ManOptions) -> Result<(), Failure> {
    let folder = &options.folder;
    std::fs::create_dir_all(folder).with_context(|| format!("make the folder {}", folder.display()))?;
    clap_mangen::generate_to(CommandLine::command(), folder)
        .with_context(|| format!("write the pages to {}", folder.display()))?;
    println!("the pages are in {}: man -l {}", folder.display(), folder.join("learnsync.1").display());
    Ok(())
}
