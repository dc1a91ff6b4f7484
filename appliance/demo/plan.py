"""Who comes when: the rounds of the story, with all jobs shared out among them."""

from __future__ import annotations

from itertools import cycle

from appliance.demo.floor import Floor
from appliance.demo.people import MOST_TOLD, VISITOR, Turn, share_out, who_copies
from appliance.simulator.lab import AnyCopier
from appliance.simulator.users import Users


class Plan:
    """The rounds.

    `morning` and `evening` are at all copiers while the server is there; `outage`, `kill` (Locum is killed in it) and
    `second` (in the second outage) at those of the office. `stays` is still logged in when the server dies, `comes_in`
    swipes then, and the visitor has the last turn before the server is back. In the library `once` and `until_restored`
    are let in by the code, None without a library; on the copier that stays unlocked somebody copies in `kill` too.
    """

    def __init__(self, floor: Floor, users: Users, jobs: int) -> None:
        people = cycle(who_copies(users))

        def turn(copier: AnyCopier, place: int) -> Turn:
            return Turn(copier, next(people), told=place < MOST_TOLD)

        def at(copiers: list[AnyCopier]) -> list[Turn]:
            return [turn(copier, place) for place, copier in enumerate(copiers)]

        office, library = floor.office, floor.library
        self.first_copier = office[0]
        self.radius_copier = office[-1]
        self.morning = at([*office, *library])
        self.outage = at(office)
        self.once = turn(library[0], 0) if library else None
        self.next_pupil = next(people)
        self.until_restored = turn(library[-1], 0) if library else None
        self.kill = at([*office, *library[-1:]])
        self.second = at(office)
        self.evening = at([*office, *library])
        self.stays = self.morning[len(office) - 1]
        self.comes_in = self.outage[0]
        self.second[0].person = VISITOR
        self.stays.told = True
        taught = [each for each in (self.once, self.until_restored) if each is not None]
        every = [*self.morning, *self.outage, *taught, *self.kill, *self.second, *self.evening]
        share_out(jobs, every, [self.second[0], self.comes_in, *taught, self.stays, *self.kill])
