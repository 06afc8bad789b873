-- Returns how many clients are present, and how many users they are.
return { redis.call('HLEN', KEYS[1]), redis.call('HLEN', KEYS[3]) }
