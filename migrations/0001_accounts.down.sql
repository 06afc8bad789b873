DROP TABLE audit_log;
DROP TABLE password_resets;
DROP TABLE revocations;
DROP TABLE api_keys;
DROP TABLE sessions;
DROP TABLE users;
