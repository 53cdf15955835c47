//! `orchestrator init`: the embedded files as a project folder.

use super::{InitArgs, complain, exit, print};
use crate::assets;

pub(super) fn run(args: &InitArgs) -> u8 {
    match assets::write_to(&args.dir) {
        Ok(written) => {
            for path in &written {
                print(&path.display().to_string());
            }
            print(&format!(
                "{} files; now: orchestrator check {}",
                written.len(),
                args.dir.display()
            ));
            exit::OK
        }
        Err(error) => {
            complain(&format!("init: {error}"));
            exit::DATA
        }
    }
}
