//! The list of the schemes' own forms. A new form is one line here.

use crate::form::SchemeForm;

/// The forms, in the order in which they are tried.
pub(crate) const FORMS: &[&dyn SchemeForm] = &[&crate::nvm::card::CardForm, &crate::nvm::PlanForm];
