// Writes the vectors of tokens: npm jose 6.2.18.
import * as jose from 'jose'; import { writeFileSync } from 'node:fs'; import { createPublicKey } from 'node:crypto';
const claims = {"iss":"https://facilitator.example","sub":"user-7","aud":"nvm:card-delegation","jti":"6f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60","iat":1767225600,"exp":1769817600,"nvm":{"delegationId":"6f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60","provider":"stripe","providerCustomerId":"cus_Example01","providerPaymentMethodId":"pm_Example01","spendingLimitCents":5000,"currency":"usd","planId":"1001","maxTransactions":10}};
const rs = await jose.generateKeyPair('RS256', {extractable:true});
const es = await jose.generateKeyPair('ES256', {extractable:true});
const other = await jose.generateKeyPair('ES256', {extractable:true});
const pub = async (k, kid, alg) => ({...(await jose.exportJWK(k.publicKey)), kid, alg, use:'sig'});
const sign = (c, key, alg, kid) => new jose.SignJWT(c).setProtectedHeader({alg, typ:'JWT', kid}).sign(key.privateKey);
const out = { source: "npm jose 6.2.18, node " + process.version + ", keys made for this file",
 keys: [await pub(rs,'r1','RS256'), await pub(es,'e1','ES256')], removed: await pub(other,'o1','ES256'),
 claims, good: { rs256: await sign(claims, rs,'RS256','r1'), es256: await sign(claims, es,'ES256','e1') }, bad: {} };
out.bad.removedKey = await sign(claims, other,'ES256','o1');
out.bad.kidOfAnotherKey = await sign(claims, other,'ES256','e1');
out.bad.algOfAnotherKey = await sign(claims, rs,'RS256','e1');
out.bad.ps256 = await new jose.SignJWT(claims).setProtectedHeader({alg:'PS256',typ:'JWT',kid:'r1'}).sign((await jose.importPKCS8(await jose.exportPKCS8(rs.privateKey),'PS256')));
out.bad.none = new jose.UnsecuredJWT(claims).encode();
const pem = await jose.exportSPKI(es.publicKey);
const jwk = JSON.stringify(out.keys[1]);
const der = createPublicKey(pem).export({format:'der', type:'spki'});
for (const [name, secret] of [['hs256Pem', Buffer.from(pem)], ['hs256Jwk', Buffer.from(jwk)], ['hs256Der', der]])
  out.bad[name] = await new jose.SignJWT(claims).setProtectedHeader({alg:'HS256',typ:'JWT',kid:'e1'}).sign(secret);
const [h,p,s] = out.good.es256.split('.');
const raw = Buffer.from(s,'base64url');
const int = (b) => { let i=0; while(i<b.length-1&&b[i]===0) i++; b=b.subarray(i); if(b[0]&0x80) b=Buffer.concat([Buffer.from([0]),b]); return Buffer.concat([Buffer.from([2,b.length]),b]); };
const body = Buffer.concat([int(raw.subarray(0,32)), int(raw.subarray(32))]);
out.bad.derSignature = [h,p,Buffer.concat([Buffer.from([0x30,body.length]),body]).toString('base64url')].join('.');
out.bad.rZero = [h,p,Buffer.concat([Buffer.alloc(32),raw.subarray(32)]).toString('base64url')].join('.');
out.bad.sZero = [h,p,Buffer.concat([raw.subarray(0,32),Buffer.alloc(32)]).toString('base64url')].join('.');
out.bad.padded = [h,p,s].map(x=>x+'='.repeat((4-x.length%4)%4)).join('.');
const es2 = (c, extra={}) => new jose.SignJWT(c).setProtectedHeader({alg:'ES256',typ:'JWT',kid:'e1',...extra}).sign(es.privateKey);
const text = (t, hdr) => new jose.CompactSign(Buffer.from(t)).setProtectedHeader(hdr??{alg:'ES256',typ:'JWT',kid:'e1'}).sign(es.privateKey);
const J = JSON.stringify;
out.signedBad = {
 audArray: await text(J({...claims, aud:['nvm:card-delegation']})),
 audOther: await es2({...claims, aud:'nvm:erc4337'}), issOther: await es2({...claims, iss:'https://facilitator.example/'}),
 jtiOther: await es2({...claims, jti:'another'}),
 expText: await text(J({...claims, exp:'1769817600'})), expExponent: await text(J(claims).replace('"exp":1769817600','"exp":1.7698176e9')),
 expFraction: await text(J(claims).replace('"exp":1769817600','"exp":1769817600.0')),
 repeated: await text(J(claims).replace('"sub":"user-7"','"sub":"user-8","sub":"user-7"')),
 noSub: await text(J({...claims, sub:undefined})), emptySub: await es2({...claims, sub:''}), longSub: await es2({...claims, sub:'u'.repeat(129)}),
 subNull: await text(J({...claims, sub:null})), noIat: await text(J({...claims, iat:undefined})),
 limitZero: await es2({...claims, nvm:{...claims.nvm, spendingLimitCents:0}}), limitText: await es2({...claims, nvm:{...claims.nvm, spendingLimitCents:'5000'}}),
 limitHuge: await text(J(claims).replace('"spendingLimitCents":5000','"spendingLimitCents":9007199254740992')),
 currencyUpper: await es2({...claims, nvm:{...claims.nvm, currency:'USD'}}), currencyJpy: await es2({...claims, nvm:{...claims.nvm, currency:'jpy'}}),
 idSlash: await es2({...claims, jti:'a/b', nvm:{...claims.nvm, delegationId:'a/b'}}),
 providerUnknown: await es2({...claims, nvm:{...claims.nvm, provider:'paypal'}}), noNvm: await text(J({...claims, nvm:undefined})),
 maxZero: await es2({...claims, nvm:{...claims.nvm, maxTransactions:0}}), planHex: await es2({...claims, nvm:{...claims.nvm, planId:'0x3e9'}}),
 nonceShort: await es2({...claims, nvm:{...claims.nvm, nonce:'0x11'}}),
 crit: await text(J(claims), {alg:'ES256',typ:'JWT',kid:'e1',b64:true,crit:['b64']}),
};
out.signedGood = {
 iatAhead60: await es2({...claims, iat:1767225660}), iatAhead61: await es2({...claims, iat:1767225661}),
 nbfLater: await es2({...claims, nbf:1767225700}),
 erc4337: await es2({...claims, nvm:{...claims.nvm, provider:'erc4337'}}),
 bound: await es2({...claims, nvm:{...claims.nvm, agentId:'2002', resourceUrl:'https://shop.example/reports', httpVerb:'POST', nonce:'0x'+'11'.repeat(32)}}),
 jku: await text(J(claims), {alg:'ES256',typ:'JWT',kid:'e1',jku:'http://127.0.0.1:9/jwks',jwk:out.removed,x5u:'http://127.0.0.1:9/x'}),
 days31: await es2({...claims, exp:1767225600+31*86400}),
};
writeFileSync('tokens.json', JSON.stringify(out,null,1)+'\n');
