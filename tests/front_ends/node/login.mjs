// How the extension finds out whether a server wants a password, and what it makes of one.

/**
 * Returns {requires_password, headers}: the headers carry the session cookie, where there is one.
 * With a token, or where no password is wanted, there is nothing to log in to.
 */
export async function login(baseUrl, { token, password, fetch }) {
  const requires_password = await wantsPassword(baseUrl, fetch);
  if (token) {
    return { requires_password, headers: {} };
  }
  const xsrf = await readXsrf(baseUrl, fetch);
  const session = xsrf ? await enter(baseUrl, { xsrf, password, fetch }) : undefined;
  if (!session) {
    return { requires_password, headers: {} };
  }
  // The attributes of the session cookie are sent back with it: the extension cuts at the first =.
  const headers = { Cookie: `_xsrf=${xsrf}; ${session}`, 'X-XSRFToken': xsrf };
  return { requires_password, headers };
}

async function wantsPassword(baseUrl, fetch) {
  const root = await fetch(baseUrl, { redirect: 'follow' });
  if (root.status === 200 && root.redirected) {
    const url = root.url.toLowerCase();
    if (url.includes('/login?')) {
      return true;
    }
    if (url.includes('/lab?')) {
      return false;
    }
  }
  const tree = await fetch(new URL('tree?', baseUrl), { redirect: 'manual' });
  return tree.status !== 404 && tree.status !== 200;
}

async function readXsrf(baseUrl, fetch) {
  const page = await fetch(new URL('login?', baseUrl), { redirect: 'manual' });
  const cookie = page.headers.getSetCookie().find(each => each.startsWith('_xsrf='));
  return page.ok && cookie ? cookie.slice('_xsrf='.length).split(';')[0] : undefined;
}

async function enter(baseUrl, { xsrf, password, fetch }) {
  const answer = await fetch(new URL('login?', baseUrl), {
    method: 'POST',
    headers: {
      Cookie: `_xsrf=${xsrf}`,
      'content-type': 'application/x-www-form-urlencoded;charset=UTF-8'
    },
    body: new URLSearchParams({ _xsrf: xsrf, password }).toString(),
    redirect: 'manual'
  });
  return answer.status === 302 ? answer.headers.getSetCookie()[0] : undefined;
}
