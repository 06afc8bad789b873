ALTER TABLE endpoints DROP COLUMN max_rate;
DROP TABLE callbacks;
