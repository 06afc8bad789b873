DROP TABLE files, file_usage, files_removed, file_store;
DROP FUNCTION files_account;
