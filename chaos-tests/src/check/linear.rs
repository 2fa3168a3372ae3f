use super::Report;
use super::view::View;
pub(super) fn check(_view: &View<'_>, _report: &mut Report) {}
