// Verifies the token of a call. Made by `manor-mcp edge nginx`; nginx.conf imports this file.
//
// The secrets are read at each call, so a change needs no reload. A secret that is missing, empty
// or shorter than 32 bytes opens nothing.
//
// What this does not check, and the library's own verifier does:
//   - a claim that occurs twice: the last is used. Only the holder of a secret or private key can
//     make such a token;
//   - EdDSA: such tokens are refused.
// The public keys below are those of MCP_AUTH_JWKS_FILE: when it changes, run
// `manor-mcp edge nginx --output DIR` again, and reload nginx.

import fs from 'fs';

const SETTINGS = @@settings@@;
const MIN_SECRET_BYTES = 32;
const MAX_TOKEN_LENGTH = 8192;
const MAX_AHEAD_SECONDS = 60;
const ALGORITHMS = {
    ES256: {name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256'},
    RS256: {name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256'},
};
// Blank, a comment, or a PEM, JWK or ssh key: anybody has it, or could guess it.
const NO_SECRET = /^\s*(#\s|\{\s*"|ssh-|ecdsa-|$)|-----(BEGIN|END) /;
// What a file of several secrets, one a line, does not look like: PEM and JSON.
const STRUCTURE = /^[\s\ufeff]*[{\[].*[\r\n]|-----(BEGIN|END) /;
const TOKEN = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;
// The one spelling of 32 bytes: the unused bits of the last character are zero.
const HS256_SIGNATURE = /^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/;

async function verify(r) {
    const caller = await caller_of(r).catch(() => null);
    if (caller) {
        r.headersOut['X-MCP-Caller'] = caller.subject;
        if (caller.scope) {
            r.headersOut['X-MCP-Scope'] = caller.scope;
        }
    } else if (SETTINGS.enforcement !== 'observe') {
        r.headersOut['WWW-Authenticate'] = challenge(r);
        r.return(401);
        return;
    }
    r.return(204);
}

function challenge(r) {
    if (!r.headersIn.Authorization) {
        return 'Bearer';
    }
    return 'Bearer error="invalid_token", error_description="invalid or missing bearer token"';
}

async function caller_of(r) {
    const token = token_of(r.headersIn.Authorization);
    if (token === null) {
        return null;
    }
    const parts = token.split('.');
    const header = decoded(parts[0]);
    if ('crit' in header || !await is_signed(header, parts)) {
        return null;
    }
    const claims = accepted(decoded(parts[1]));
    return claims && speaks_for(header, claims.subject) ? claims : null;
}

function token_of(value) {
    const found = /^[Bb][Ee][Aa][Rr][Ee][Rr] +([^ ]+)$/.exec(value || '');
    if (!found || found[1].length > MAX_TOKEN_LENGTH || !TOKEN.test(found[1])) {
        return null;
    }
    return found[1];
}

function decoded(part) {
    const bytes = Buffer.from(part, 'base64url');
    const value = JSON.parse(new TextDecoder('utf-8', {fatal: true, ignoreBOM: true}).decode(bytes));
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
        throw new Error('not an object');
    }
    return value;
}

// The algorithm comes from the key: a token that names another one is refused.
function is_signed(header, parts) {
    const signed = Buffer.from(parts[0] + '.' + parts[1]);
    const signature = Buffer.from(parts[2], 'base64url');
    if (header.alg === 'HS256') {
        return HS256_SIGNATURE.test(parts[2]) && is_signed_by_secret(signature, signed);
    }
    const key = public_key(header);
    return key && is_signed_by_key(key, signature, signed);
}

async function is_signed_by_secret(signature, signed) {
    const algorithm = {name: 'HMAC', hash: 'SHA-256'};
    const known = secrets();
    if (known.length === 0) {
        ngx.log(ngx.ERR, 'MCP auth: no shared secret of 32 bytes or more can be read');
    }
    for (let i = 0; i < known.length; i++) {
        const key = await crypto.subtle.importKey('raw', known[i], algorithm, false, ['verify']);
        if (await crypto.subtle.verify(algorithm, key, signature, signed)) {
            return true;
        }
    }
    return false;
}

async function is_signed_by_key(known, signature, signed) {
    const algorithm = ALGORITHMS[known.alg];
    const spki = Buffer.from(known.spki, 'base64');
    const key = await crypto.subtle.importKey('spki', spki, algorithm, false, ['verify']);
    return crypto.subtle.verify(algorithm, key, signature, signed);
}

function public_key(header) {
    return SETTINGS.public_keys.find((it) => it.kid === header.kid && it.alg === header.alg);
}

// A key of the JWKS file with a `sub` speaks for these subjects alone.
function speaks_for(header, subject) {
    const key = header.alg === 'HS256' ? null : public_key(header);
    return !key || !key.subjects || key.subjects.some((it) => it === subject
        || it.endsWith('*') && subject.startsWith(it.slice(0, -1)) && subject.length >= it.length);
}

function secrets() {
    const texts = [current_secret()].concat(previous_secrets());
    return texts.filter((it) => !NO_SECRET.test(it)).map((it) => Buffer.from(it))
        .filter((it) => it.length >= MIN_SECRET_BYTES);
}

function current_secret() {
    if (SETTINGS.secret_file) {
        return read(SETTINGS.secret_file).replace(/[\r\n]+$/, '');
    }
    return process.env.MCP_AUTH_SECRET || '';
}

function previous_secrets() {
    if (SETTINGS.previous_secret_file) {
        const text = read(SETTINGS.previous_secret_file);
        return STRUCTURE.test(text) ? [] : text.split(/\r?\n/);
    }
    return [process.env.MCP_AUTH_PREVIOUS_SECRET || ''];
}

function read(path) {
    try {
        return fs.readFileSync(path, 'utf8');
    } catch (e) {
        return '';
    }
}

function accepted(claims) {
    const now = Math.floor(Date.now() / 1000);
    const audiences = Array.isArray(claims.aud) ? claims.aud : [claims.aud];
    const good = claims.iss === SETTINGS.issuer
        && audiences.every(is_text) && audiences.includes(SETTINGS.audience)
        && is_text(claims.sub) && is_field_value(claims.sub)
        && is_number(claims.exp) && now < Math.floor(claims.exp)
        && (is_number(claims.iat) && Math.floor(claims.iat) - MAX_AHEAD_SECONDS <= now
            || !('iat' in claims) && SETTINGS.issued_at === 'optional')
        && (!('nbf' in claims) || is_number(claims.nbf) && Math.floor(claims.nbf) <= now);
    if (!good) {
        return null;
    }
    const scope = is_text(claims.scope) ? claims.scope.split(' ').filter(is_text).join(' ') : '';
    if (scope && !is_field_value(scope)) {
        return null;
    }
    return {subject: claims.sub, scope: scope};
}

function is_text(value) {
    return typeof value === 'string' && value.length > 0;
}

// Visible ASCII, and spaces inside: what a header can carry. In njs, `$` matches before a line end.
function is_field_value(text) {
    return !/[^ -~]/.test(text) && text.trim() === text;
}

function is_number(value) {
    return typeof value === 'number' && Math.abs(value) <= Number.MAX_SAFE_INTEGER;
}

export default {verify};
