/** Commands that run a daemon, and those that ask a supernode about its hosts. */
import { type CommandRow, JSON_OPTION, type OptionRow } from './shape.ts'

const READY_JSON: OptionRow = { flags: '--json', summary: 'print the line that says it is ready as JSON' }

export const DAEMONS: readonly CommandRow[] = [
  {
    name: 'supernode',
    summary: 'run the supernode: it reads each blob once at its origin, seeds it and introduces peers to each other',
    settings: 'supernode',
    options: [READY_JSON],
    examples: ['darner supernode --listen 127.0.0.1:7070 --p2p-listen 0.0.0.0:7071 --data /var/lib/darner/supernode'],
  },
  {
    name: 'supernode token',
    summary: 'show the join token that agents of this supernode need',
    settings: 'supernode',
    only: ['data'],
    options: [JSON_OPTION],
  },
  {
    name: 'supernode revoke',
    summary: 'take a host out of the swarm: its session and connections end, it may not join again',
    settings: 'supernode',
    only: ['data'],
    args: [{ name: 'PEER', summary: "the host's PeerId, as `darner status` shows it there" }],
    options: [{ flags: '--why <TEXT>', summary: 'kept on record with it' }],
  },
  {
    name: 'supernode allow',
    summary: 'let a host join without the join token, also one that was revoked or banned',
    settings: 'supernode',
    only: ['data'],
    args: [{ name: 'PEER', summary: "the host's PeerId" }],
  },
  {
    name: 'agent',
    summary: 'run the agent of this host: it joins the swarm, serves what it holds and runs containers',
    settings: 'agent',
    options: [READY_JSON],
    examples: ['darner agent --supernode /ip4/192.0.2.1/tcp/7071/p2p/… --join-token @/etc/darner/token'],
  },
]
