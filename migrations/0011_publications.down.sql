DROP TABLE publications;
DROP FUNCTION publications_drop_before;
DROP FUNCTION publications_add_month;
