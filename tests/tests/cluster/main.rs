//! Real nodes: processes of the built program, spoken to over gRPC, killed, stopped, cut off and
//! fed with nonsense.
//!
//! What is checked here is what the simulator cannot see: processes, disks, sockets, the command
//! line and the messages. Every wait is for a condition (`support::eventually`); nothing asserts
//! how long something took.

mod access;
mod ancestors;
mod bench;
mod cli;
mod client;
mod clients;
mod collection;
mod conflicts;
mod console;
mod coordination;
mod copies;
mod crashes;
mod data;
mod failing;
mod folds;
mod hostile;
mod hostile_clients;
mod members;
mod metrics;
mod options;
mod partition;
mod pauses;
mod profiles;
mod python;
mod quotas;
mod refills;
mod refusals;
mod regions;
mod repair;
mod replication;
mod resize;
mod ring;
mod rules;
mod secrets;
mod sessions;
mod signing;
mod sloppy;
mod startup;
mod stops;
mod support;
mod tls;
mod traces;
mod transfers;
mod undo;
mod upgrade;
mod watch;
