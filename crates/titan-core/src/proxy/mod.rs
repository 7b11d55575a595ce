//! The spine: one function from head to answer.
