// Signing in, as the pages beside this file share it. A page says itself what it does with errors: `complain(error)`.

const element = (id) => document.getElementById(id);

async function answerOf(path, options) {
  const answer = await fetch(`/api/v1${path}`, options);
  const value = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(value.detail ?? value.title), { status: answer.status });
  return value;
}

function post(path, body) {
  return answerOf(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
}

// Who signed in with a password gets fresh tokens for it; a pasted token is all there is.
function sessionTokens(session) {
  let renewal;
  return async (isFreshNeeded) => {
    if (isFreshNeeded) {
      // A refresh token is good once: who asks meanwhile waits for the same answer.
      renewal ??= post('/auth/refresh', { refresh_token: session.refresh_token }).finally(() => (renewal = undefined));
      session = await renewal;
    }
    return session.access_token;
  };
}

function pastedToken(token) {
  return async (isFreshNeeded) => {
    if (isFreshNeeded) throw new Error('The token has expired.');
    return token;
  };
}

const socketUrl = () => `${location.origin.replace('http', 'ws')}/connection/websocket`;

function onSubmit(id, action) {
  element(id).addEventListener('submit', async (event) => {
    event.preventDefault();
    try {
      await action(Object.fromEntries(new FormData(event.target, event.submitter)), event.target);
    } catch (error) {
      complain(error);
    }
  });
}

// The forms to sign in with a password, and with a token.
function onEntrance(enter) {
  onSubmit('sign-in', async ({ email, password, how }) => {
    const session = await post(`/auth/${how ?? 'login'}`, { email, password });
    enter(sessionTokens(session), email.split('@')[0]);
  });
  onSubmit('paste', ({ token }) => enter(pastedToken(token.trim()), 'guest'));
}
