//! Torsade inside other people's loops. The programs are in `examples/`, one for each host;
//! here is the work that their tests have them do.

pub mod chores;
