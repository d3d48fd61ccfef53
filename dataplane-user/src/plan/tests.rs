//! Scenarios of the plan.
