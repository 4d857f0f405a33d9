-- Retention: ended reservations are deleted as well, and old changes are found from the other side.

-- Reservations that ended long ago, oldest first.
CREATE INDEX reservations_ended ON reservations (update_time) WHERE state IN ('CANCELLED', 'EXPIRED');

-- Old changes are found event by event: the oldest of each is the first entry of its part of the primary
-- key. The block ranges of changes_by_time told nothing any more once the space of deleted rows had been
-- used again, since a range never forgets its oldest moment.
DROP INDEX changes_by_time;
