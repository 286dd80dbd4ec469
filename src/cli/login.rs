//! `learnsync login`: an administrator says yes once, and learnsync reads the portal from then on.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;

use super::{Failure, WithConfig, runtime};
use crate::config::unknown;
use crate::daemon::{Answer, Checked, Order, ask, control_socket, log_in_alone, verdict};
use crate::domain::chance::{Entropy, Generator};
use crate::domain::digest::hex;
use crate::lms::absorb::code_of;

/// The largest answer that is pasted or stands in a file, in bytes.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// Lets an administrator allow learnsync to read a portal (OAuth 2); needed once, and before that login ends after a year.
///
/// It prints a page to open in any browser. The portal then sends that browser to the redirect address of the configuration: nothing has to
/// answer there, because what counts is the address itself, which is pasted here. Exit status: 0 done, 1 it was refused, 2 the configuration
/// is wrong.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = "Example: learnsync login main")]
pub(super) struct Options {
    #[command(flatten)]
    with: WithConfig,
    /// The portal.
    portal: String,
    /// Only prints the page; a later call takes the answer with --state and --redirected or --code-file.
    #[arg(long, conflicts_with_all = ["redirected", "code_file", "state"])]
    print_page: bool,
    /// The address to which the portal sent the browser, instead of pasting it.
    #[arg(long, requires = "state", conflicts_with = "code_file")]
    redirected: Option<String>,
    /// A file with that address, or with the code alone.
    #[arg(long, requires = "state")]
    code_file: Option<PathBuf>,
    /// The state of the page that --print-page printed.
    #[arg(long)]
    state: Option<String>,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let checked = verdict::of(&options.with.config).portals()?;
    let name = &options.portal;
    let known: Vec<&str> = checked.parts.portals.keys().map(String::as_str).collect();
    let portal =
        checked.parts.portals.get(name).ok_or_else(|| Failure::Configuration(unknown("portal", name, &known)))?;
    let Some(client) = portal.oauth() else {
        return Err(Failure::Configuration(format!(
            "portal {name} logs in with a password by itself: only a portal with portals.{name}.oauth needs this"
        )));
    };
    let state = options.state.clone().unwrap_or_else(new_state);
    let answer = match (&options.redirected, &options.code_file) {
        (Some(address), _) => address.clone(),
        (None, Some(file)) => read_file(file)?,
        (None, None) => {
            println!("Open this page, and log in as the administrator whose role learnsync shall have:\n");
            println!("  {}\n", client.authorize_url(&state));
            if options.print_page {
                println!(
                    "Then: learnsync login {name} --state {state} --redirected '<the address where the browser ends>'"
                );
                return Ok(());
            }
            if std::io::stdin().is_terminal() {
                println!("The browser ends at {}, where nothing needs to answer.", client.redirect_uri);
                println!("Paste its whole address here, and press Enter:");
            }
            read_line()?
        }
    };
    let code = code_of(&answer, &state).map_err(|words| anyhow!(words))?;
    let done = runtime()?.block_on(hand_in(&checked, name, code))?;
    println!("{done}");
    Ok(())
}

/// 128 bits that nobody guesses, as hex.
fn new_state() -> String {
    let mut bytes = [0; 16];
    Generator::from_os().fill(&mut bytes);
    hex(&bytes)
}

fn read_line() -> anyhow::Result<String> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).context("read the pasted address")?;
    Ok(line)
}

fn read_file(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    file.take(ANSWER_BYTES_MAX).read_to_string(&mut text).with_context(|| format!("read {}", path.display()))?;
    Ok(text)
}

/// The running daemon takes the code itself, so that it reads with the new login at once; else it is taken here.
async fn hand_in(checked: &Checked, portal: &str, code: String) -> anyhow::Result<String> {
    let order = Order::Login { portal: portal.to_owned(), code: code.clone() };
    match ask(&control_socket(&checked.config), &order).await? {
        Some(Answer::Done(done)) => Ok(done.words),
        Some(Answer::Refused { because }) => Err(anyhow!(because)),
        None => Ok(log_in_alone(checked, portal, &code).await?.words),
    }
}
