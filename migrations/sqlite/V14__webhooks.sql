-- Why the last delivery to a group was refused: a status or a word, never content.
ALTER TABLE event_deliveries ADD COLUMN last_error TEXT;
