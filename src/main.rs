//! The program: parses the command line and hands over.

fn main() -> std::process::ExitCode {
    learnsync::cli::main()
}
