//! The end of a charon that an earlier configuration left behind: with another backend its keys are
//! of no use.

use super::program::{Program, folder};
use std::path::Path;

/// Ends it, if there is one. Its peers are told, and its keys go.
pub(crate) async fn retire(run_folder: &Path) -> bool {
    Program::new(&folder(run_folder)).end_left_over().await
}
