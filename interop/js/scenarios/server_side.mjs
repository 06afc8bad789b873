// Subscriptions that the server makes: the personal channel of each user, and those a token names.
import assert from 'node:assert/strict';
import { connect } from '../client.mjs';

export const serverSide = {
  'each user is on the personal channel without asking': async (scope) => {
    const account = await scope.api.account();
    const client = await connect(scope, { token: account.token });
    const { channel } = await client.events.next('subscribed');
    assert.equal(channel, `user:#${account.id}`);
  },
};
