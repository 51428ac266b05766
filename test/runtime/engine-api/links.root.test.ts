import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { aDocker, type Docker } from '../../fixtures/clients/a-docker.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'

/** What docker's clients ask of a network beside a name and an address, by docker's own command. */
describe('networks of docker clients', function () {
  this.timeout(120_000)
  let docker: Docker
  before(async function () {
    onStage(this, { net: true, programs: ['docker', 'crun', 'conmon', 'busybox', 'docker-registry', 'ip', 'iptables'] })
    docker = await aDocker({ defaultNetwork: 'bridge' })
  })
  after(async () => await docker?.[Symbol.asyncDispose]())

  const ask = async (format: string, name: string) =>
    JSON.parse(await docker.ok(['inspect', '-f', `{{json ${format}}}`, name]))
  const run = (name: string, words: readonly string[], command: readonly string[]) =>
    docker.ok(['run', '-d', '--name', name, ...words, 'busybox', ...command])

  it('links containers on the default one by hosts file and environment, as long as both run', async () => {
    await run('db', ['-e', 'FOO=1', '--expose', '5432', '--hostname', 'data'], ['sleep', '1000'])
    const { IPAddress } = await ask('.NetworkSettings', 'db')
    await docker.ok([
      'create',
      '--name',
      'front',
      '--link',
      'db:my-db',
      '--link',
      'db',
      'busybox',
      'sh',
      '-c',
      'env; cat /etc/hosts',
    ])
    assert.deepEqual(await ask('.HostConfig.Links', 'front'), ['/db:/front/my-db', '/db:/front/db'])
    const lines = (await docker.ok(['start', '-a', 'front'])).split('\n')
    for (const line of [
      'MY_DB_NAME=/front/my-db',
      'MY_DB_ENV_FOO=1',
      `MY_DB_PORT_5432_TCP=tcp://${IPAddress}:5432`,
      `MY_DB_PORT=tcp://${IPAddress}:5432`,
      `${IPAddress}\tmy-db data db`,
      `${IPAddress}\tdb data`,
    ])
      assert.ok(lines.includes(line), `${line} in ${lines.join('\n')}`)
    await docker.ok(['stop', '-t', '0', 'db'])
    const failed = await docker.run(['start', 'front'])
    assert.match(failed.stderr, /Cannot link to a non running container: \/db AS \/front\/my-db/)
    await docker.ok(['rm', '--link', '/front/my-db'])
    assert.deepEqual(await ask('.HostConfig.Links', 'front'), ['/db:/front/db'])
    assert.match((await docker.run(['rm', '--link', '/front/my-db'])).stderr, /container front has no link my-db/)
  })

  it('resolves a link on a network for the one that has it', async () => {
    await docker.ok(['network', 'create', 'my net'])
    await run('far', ['--network', 'my net'], ['sleep', '1000'])
    await run('near', ['--network', 'my net', '--link', 'far:bar'], ['sleep', '1000'])
    const { Networks } = await ask('.NetworkSettings', 'far')
    const resolved = await docker.ok(['exec', 'near', 'nslookup', 'bar'])
    assert.ok(resolved.includes(Networks['my net'].IPAddress), resolved)
    assert.notEqual((await docker.run(['exec', 'far', 'nslookup', 'bar'])).code, 0)
    const near = (await ask('.NetworkSettings', 'near')).Networks['my net']
    const [id] = JSON.parse(await docker.ok(['inspect', '-f', '[{{json .Id}}]', 'near'])) as [string]
    assert.deepEqual([near.Links, near.Aliases], [['far:bar'], [id.slice(0, 12)]])
  })

  it('gives link-local addresses beside its own, and none that is kept for others', async () => {
    const subnet = ['--subnet', '10.92.7.0/29', '--gateway', '10.92.7.1']
    await docker.ok([
      'network',
      'create',
      ...subnet,
      '--aux-address',
      'router=10.92.7.2',
      '--aux-address',
      'b=10.92.7.4',
      'kept',
    ])
    const [{ IPAM }] = JSON.parse(await docker.ok(['network', 'inspect', 'kept']))
    assert.deepEqual(IPAM.Config[0].AuxiliaryAddresses, { router: '10.92.7.2', b: '10.92.7.4' })
    const addresses: string[] = []
    for (const name of ['k1', 'k2', 'k3']) {
      await run(name, ['--network', 'kept', '--link-local-ip', '169.254.8.8'], ['sleep', '1000'])
      addresses.push((await ask('.NetworkSettings', name)).Networks.kept.IPAddress)
    }
    assert.deepEqual(addresses.sort(), ['10.92.7.3', '10.92.7.5', '10.92.7.6'])
    assert.match(await docker.ok(['exec', 'k1', 'ip', 'addr']), /inet 169\.254\.8\.8\/16/)
    assert.deepEqual((await ask('.NetworkSettings', 'k1')).Networks.kept.IPAMConfig, { LinkLocalIPs: ['169.254.8.8'] })
  })

  it('tells of a network that a container will be on what was asked for', async () => {
    await docker.ok(['network', 'create', '--subnet', '10.92.8.0/24', 'later'])
    await docker.ok(['create', '--name', 'still', '--network', 'none', 'busybox'])
    await docker.ok(['create', '--name', 'soon', 'busybox', 'sleep', '1000'])
    await docker.ok(['network', 'connect', '--ip', '10.92.8.9', '--driver-opt', 'a=b', '--alias', 'x', 'later', 'soon'])
    const { later } = (await ask('.NetworkSettings', 'soon')).Networks
    assert.deepEqual(
      [later.IPAMConfig, later.DriverOpts, later.IPAddress],
      [{ IPv4Address: '10.92.8.9' }, { a: 'b' }, ''],
    )
    assert.deepEqual(later.Aliases.slice(0, 1), ['x'])
    await docker.ok(['start', 'soon'])
    assert.equal((await ask('.NetworkSettings', 'soon')).Networks.later.IPAddress, '10.92.8.9')
  })
})
