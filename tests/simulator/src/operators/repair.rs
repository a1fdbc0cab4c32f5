//! Operators who want owners compared and repaired, and the check that they are once that is done.

use stator_core::event::{Event, RepairError, RepairFigures, RepairId, RepairRequest};

use super::TICKET;
use crate::checkers::{REPAIRED, RESTS, Violation};
use crate::queue::Micros;
use crate::scenario::Chore;
use crate::world::World;

const SECOND: Micros = 1_000_000;
/// How long a repair may take when everything is well.
const REPAIR_US: Micros = 60 * SECOND;

impl World {
    pub(super) fn ask_repair(&mut self, machine: usize) {
        self.trace.line(self.now_us, format_args!("operator -> n{machine}: repair"));
        self.tell(machine, Event::Repair(TICKET, RepairRequest::default()));
    }

    /// A repair is under way, or is not.
    pub(crate) fn repair_started(&mut self, machine: usize, result: Result<RepairId, RepairError>) {
        if let Ok(id) = result {
            self.desk.repair = Some((machine, id, RepairFigures::default()));
        }
    }

    /// A repair is so far by now.
    pub(crate) fn repair_goes_on(&mut self, repair: RepairId, figures: &RepairFigures) {
        if let Some((_, id, known)) = &mut self.desk.repair
            && *id == repair
        {
            known.clone_from(figures);
        }
    }

    /// Where nothing else compares owners an operator has them repaired: then they hold the same.
    pub(crate) fn repair(&mut self) {
        if !self.scenario.does(Chore::Repair) {
            return;
        }
        let until_us = self.now_us + REPAIR_US;
        self.desk.repair = None;
        while self.violations.is_empty() {
            let figures = self.desk.repair.as_ref().map(|(_, _, figures)| figures);
            match figures {
                Some(figures) if figures.partitions > 0 && figures.is_done() => {
                    if figures.partitions_failed == 0 {
                        self.report.repaired += 1;
                        return self.compare(REPAIRED);
                    }
                    self.desk.repair = None;
                }
                Some(_) => {}
                None => self.ask_repair(0),
            }
            if self.now_us >= until_us {
                let found = format!("a repair comes to no end: {:?}", self.desk.repair);
                return self.violations.push(Violation { rule: RESTS, key: None, found });
            }
            self.run_until(self.now_us + SECOND / 4);
        }
    }
}
